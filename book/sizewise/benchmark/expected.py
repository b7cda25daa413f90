"""What is on record before a GPU is there: NVIDIA's own times, and what our kernels cannot exceed.

A packed cache is read by code that turns each code into a number, so that instructions, not bytes,
set its ceiling: a multiprocessor issues `ISSUE` instructions of 32 threads a cycle. How many
instructions a value takes is counted in the machine code that Triton makes for sm_90, which needs
no GPU.
"""

import os
import re
import statistics
import subprocess
import tempfile

from sizewise.data import catalog, records

from .kv import DIM, HEADS, PACKED, vector_bytes

ISSUE = 4 * 32  # threads whose instruction a multiprocessor issues a cycle
MULTIPLIES = 4096  # bf16 FLOPs a multiprocessor does a cycle: the datasheet's peak gives its clock
REACHED = (0.80, 0.95)  # of the issue slots, by a loop that also waits for memory
PLAIN = (0.95, 1.0)  # of the fastest published read of a cache, by kernels of plain numbers
LAUNCH = 2.5e-6  # seconds of a kernel in a graph, with the tail of the one before
LAUNCHES = {"packed": 3, "plain": 2}  # rotate, attend, merge; attend, merge
AGREEMENT = 0.10  # median distance from the published times above which nothing is recorded


def rows(kind: str) -> list[dict]:
    """The recorded expectations of a kind: "published", "instructions" or "predicted"."""
    return [row for row in records.read("gpu_expected") if row["kind"] == kind]


def instructions(bits: int) -> dict:
    """Instructions of the decode kernel's inner loop for one stored key or value number.

    Compiles `kernels.decode.split_kernel` for sm_90 (d 128, a group of 4) and counts what lies
    between the last backward branch of its largest loop and that branch's target.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from sizewise.quantization.kernels import decode

    names = decode.split_kernel.arg_names
    constants = {"HEADS": HEADS, "GROUP": 4, "ROWS": 16, "D": DIM, "PERMUTE": True}
    constants |= {"KBITS": bits, "VBITS": bits, "BLOCK": decode.BLOCK}
    pointers = {"u8": "KC VC", "i32": "KT VT LENGTH", "fp16": "Q KN VN", "fp32": "SIZE PARTIAL LSE"}
    types = {name: f"*{kind}" for kind, group in pointers.items() for name in group.split()}
    types |= {"SPLITS": "i32", "CAPACITY": "i32"}
    aligned = [["tt.divisibility", 16]]
    source = ASTSource(
        fn=decode.split_kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(n,): aligned for n, name in enumerate(names) if name in types and name != "SPLITS"},
    )
    options = {"num_warps": decode.WARPS, "num_stages": decode.STAGES}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tool = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin", "nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        done = subprocess.run([tool, "-c", file.name], check=True, capture_output=True, text=True)
    loop = longest_loop(done.stdout)
    return {"loop": loop, "per_value": loop * decode.WARPS * 32 / (2 * decode.BLOCK * DIM)}


def longest_loop(listing: str) -> int:
    """Instructions of the largest loop in a listing of nvdisasm."""
    position, labels, loops = 0, {}, [0]
    for line in listing.splitlines():
        if label := re.match(r"(\.L_\w+):", line.strip()):
            labels[label[1]] = position
        elif instruction := re.match(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line.strip()):
            position += 1
            branch = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction[1])
            if branch and branch[1] in labels:
                loops.append(position - labels[branch[1]])
    return max(loops)


def seconds(method: str, config: dict, per_value: float | None, bandwidth: float) -> tuple:
    """(least, most) predicted seconds of one attention row on an H200.

    ``per_value`` instructions a number of a packed method, None for plain ones; ``bandwidth``
    bytes a second of the fastest published read of a cache.
    """
    card = catalog.device("H200")
    vectors = 2 * HEADS * config["batch"] * config["context"]
    size, fixed = vectors * vector_bytes(method), LAUNCH * LAUNCHES["plain"]
    rates = [bandwidth * share for share in PLAIN]
    if per_value is not None:
        fixed = LAUNCH * LAUNCHES["packed"]
        clock = card.flops["bf16"] / (card.sms * MULTIPLIES)
        values = card.sms * ISSUE * clock / per_value  # numbers a second
        rates = [min(bandwidth, values * share * size / (vectors * DIM)) for share in REACHED]
    return fixed + size / max(rates), fixed + size / min(rates)


def predict(method: str, config: dict, counts: dict[str, float], bandwidth: float) -> dict:
    """Predicted microseconds of a row, and its speed over plain caches of the same shape.

    ``counts``: instructions a value by packed method.
    """
    low, high = seconds(method, config, counts.get(method), bandwidth)
    columns = {"us_low": 1e6 * low, "us_high": 1e6 * high}
    for other in ("bf16", "fp8"):
        fast, slow = seconds(f"{other}-triton", config, None, bandwidth)
        columns |= {f"over_{other}_low": fast / high, f"over_{other}_high": slow / low}
    return columns


def agreement(recorded: list[dict], device: str) -> float | None:
    """Median distance of the "calibrate" rows of a device from the published times, as a share.

    None while any published cell lacks a row; a cell that did not run counts as far off.
    """
    mine = [row for row in recorded if (row["kind"], row["device"]) == ("calibrate", device)]
    if len(mine) < len(rows("published")):
        return None
    ratios = [abs(row["us"] / row["published_us"] - 1) if not row["refused"] else 1 for row in mine]
    return statistics.median(ratios)


def packed_counts(recorded: list[dict]) -> dict[str, float]:
    """The fewest recorded instructions a value, over tunings, by packed method."""
    counts = [row for row in recorded if row["kind"] == "instructions"]
    return {
        method: min(row["per_value"] for row in counts if row["bits"] == int(method[2]))
        for method in PACKED
    }


def bandwidth(recorded: list[dict]) -> float:
    """Bytes a second of the fastest published read of a bf16 cache."""
    cells = [row for row in recorded if row["kind"] == "published" and row["method"] == "attend"]
    cells = [row for row in cells if row["format"] == "bf16"]
    size = 2 * HEADS * vector_bytes("bf16")
    return max(size * row["batch"] * row["context"] / row["us"] * 1e6 for row in cells)
