"""What a kernel takes of a multiprocessor, from the compiler alone: no GPU is needed.

A memory-bound kernel lives on loads in flight: many registers a thread or much shared memory mean
few warps, and registers spilled to memory cost bandwidth.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """Of one kernel compiled for one chip: registers a thread, bytes, counts of instructions."""

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: int
    matrix_instructions: int
    longest_loop: int


def compiled(kernel, types: dict[str, str], constants: dict, *, warps=4, stages=3, arch=90):
    """Compile a Triton kernel for an NVIDIA chip; ``types`` maps arguments to Triton's names.

    Pointers and whole numbers are taken as multiples of 16, as they are in a cache with heads of
    64 or 128. Raises RuntimeError with the compiler's words where it refuses.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    even = [["tt.divisibility", 16]]
    aligned = {
        (place,): even
        for place, name in enumerate(names)
        if signature[name].startswith("*") or signature[name] in ("i32", "i64")
    }
    source = ASTSource(
        kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def resources(built) -> Resources:
    """Registers, spills and instructions of what `compiled` returned."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(built.asm["cubin"])
        usage = _run([tools / "cuobjdump", "-res-usage", file])
        sass = _run([tools / "nvdisasm", "-c", file])
    registers = int(re.search(r"REG:(\d+)", usage).group(1))
    lines = [line for line in sass.splitlines() if re.search(r"/\*[0-9a-f]{4,}\*/", line)]
    stored = [line for line in lines if re.search(r"\bSTL", line)]
    return Resources(
        registers=registers,
        spilled_bytes=int(re.search(r"STACK:(\d+)", usage).group(1)) if stored else 0,
        shared_bytes=built.metadata.shared,
        instructions=len(lines),
        matrix_instructions=sum(bool(re.search(r"\b(HMMA|HGMMA|WGMMA)", line)) for line in lines),
        longest_loop=_longest_loop(sass),
    )


def _longest_loop(sass: str) -> int:
    """Instructions between the furthest backward branch and its label."""
    place, labels, longest = 0, {}, 0
    for line in sass.splitlines():
        if found := re.match(r"\s*(\.L_x_\d+):", line):
            labels[found.group(1)] = place
        if re.search(r"/\*[0-9a-f]{4,}\*/", line):
            place += 1
            if found := re.search(r"BRA.*?`\((\.L_x_\d+)\)", line):
                longest = max(longest, place - labels.get(found.group(1), place))
    return longest


def _run(command) -> str:
    return subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    ).stdout
