"""How many programs of a kernel a device holds at once, and so into how many a cache is split.

A grid of a little more than the device holds takes two rounds, of which the second is nearly empty.
How many blocks a multiprocessor holds is decided by what the compiled kernel takes of it.
"""

from dataclasses import dataclass

MOST = 512  # splits of one sequence: `merge` reads them in one tile
ENOUGH = 0.95  # of the slots taken in all rounds together; then no further round is worth it
ROUNDS = 4
GUESS = 4  # blocks a multiprocessor, where there is no GPU to ask


@dataclass(frozen=True)
class Chip:
    """What one device has: multiprocessors, and of each its registers, bytes and warps."""

    units: int = 132
    registers: int = 65536
    shared_bytes: int = 233472
    warps: int = 64
    blocks: int = 32


HOPPER = Chip()  # CUDA C++ programming guide, table of compute capabilities, 9.0


@dataclass(frozen=True)
class Compiled:
    """A kernel as it was loaded: registers a thread, bytes spilled a thread, bytes, warps."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    warps: int


def resident(chip: Chip, taken: Compiled) -> int:
    """Blocks of a kernel that a multiprocessor holds at once; at least 1.

    Registers are given out in 256 a warp and to four warps at a time, shared memory in 128 bytes
    with 1 KB of each block for the system (compute capability 8 and 9).
    """
    each = -(-max(taken.registers, 1) * 32 // 256) * 256  # registers a warp
    warps = min(chip.warps, chip.registers // each // 4 * 4)
    room = chip.shared_bytes // (-(-taken.shared_bytes // 128) * 128 + 1024)
    return max(1, min(warps // taken.warps, room, chip.blocks))


def splits(programs: int, tokens: int, block: int, slots: int, rounds: int = 0) -> int:
    """Shares of each sequence, so that ``programs`` times as many fill whole rounds of ``slots``.

    ``rounds`` 0: as few as leave 5 % idle at most, of four the fullest where none does. No share
    is shorter than a tile of ``block`` tokens.
    """
    best, fullest = 1, 0.0
    for count in [rounds] if rounds else range(1, ROUNDS + 1):
        number = count * slots // programs
        full = number * programs / (count * slots)
        if full > fullest:
            best, fullest = number, full
        if full >= ENOUGH:
            break
    return max(1, min(best, -(-tokens // block), MOST))


def chip(device) -> Chip:
    """The chip behind a torch device; `HOPPER` without a GPU."""
    import torch

    if device.type != "cuda":
        return HOPPER
    told = torch.cuda.get_device_properties(device)
    return Chip(
        units=told.multi_processor_count,
        registers=getattr(told, "regs_per_multiprocessor", HOPPER.registers),
        shared_bytes=getattr(told, "shared_memory_per_multiprocessor", HOPPER.shared_bytes),
        warps=told.max_threads_per_multi_processor // 32,
    )


_known: dict = {}


def loaded(kernel, device, *arguments, **fixed) -> Compiled | None:
    """The kernel as it would run with these arguments, a torch type for a tensor; None without an
    NVIDIA GPU. Compiled and loaded once.
    """
    import torch

    if device.type != "cuda" or torch.version.hip is not None:
        return None
    types = tuple(getattr(one, "dtype", one) for one in arguments if not isinstance(one, int))
    key = (kernel, device.index, types, tuple(fixed.items()))
    if key not in _known:
        built = kernel.warmup(*arguments, grid=(1,), **fixed)
        built._init_handles()  # as Triton's own tutorial on occupancy does
        _known[key] = Compiled(
            built.n_regs, 4 * built.n_spills, built.metadata.shared, fixed["num_warps"]
        )
    return _known[key]


@dataclass(frozen=True)
class Plan:
    """Of one launch: its splits and programs, how many the device holds, and the kernel."""

    splits: int
    programs: int
    slots: int
    kernel: Compiled | None


def plan(programs: int, tokens: int, tuning, device, kernel: Compiled | None) -> Plan:
    """How ``tuning`` splits ``tokens`` of each of ``programs`` heads of sequences here."""
    here = chip(device)
    slots = here.units * (GUESS if kernel is None else resident(here, kernel))
    number = tuning.splits or splits(programs, tokens, tuning.block, slots, tuning.waves)
    return Plan(number, programs * number, slots, kernel)
