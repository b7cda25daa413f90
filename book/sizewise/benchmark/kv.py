"""Attention over a packed KV cache: checked against float64, then timed beside plain caches.

A method is the type of its cache, then the kernel: "tq4", "tq3" and "tq2" are this book's packed
codes; "bf16-triton" and "fp8-triton" the same splits over plain numbers; "bf16-flash" and
"bf16-cudnn" torch's own attention, the heads of a group folded into queries of one head. A query
is (batch, query heads, d), plain keys and values (batch, kv heads, tokens, d).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sizewise.data import records
from sizewise.models import config as configs

from . import ceilings, graph_timing, recording, rows, timing

HEADS, DIM = 8, 128  # kv heads and their size in every shape: Llama 3.1 8B and 70B
PACKED = ("tq4", "tq3", "tq2")
BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}
SEED = 0  # of every row's inputs
SPARE = 2 << 30  # bytes to work with beside weights and cache
SAME = ("device", "context", "batch", "group")  # what rows must share to be compared
LIMITS = {"packed": 1e-3, "plain": 1e-2}  # largest error of a head's answer that is timed
CODES = 1e-3  # share of codes that may differ from float64's: those beside a boundary


@dataclass(frozen=True)
class Bench:
    """Where rows are measured: "cuda" or "cpu", the file of earlier rows, the device's name."""

    device: str
    file: Path
    name: str = "CPU"

    def rows(self, what: str) -> list[dict]:
        """The rows of one kind that were recorded on this device."""
        every = records.read(self.file)
        return [row for row in every if (row["what"], row["device"]) == (what, self.name)]


def measure(config: dict, device: str, file: Path) -> dict:
    """What a row measures; a method that does not run here gives the reason as ``refused``.

    `recording.HELLO` asks for the device. A method that leaves the device unusable says so too,
    and is the last in its process. Raises RuntimeError if the device is not there.
    """
    import torch

    if config == recording.HELLO:
        return rows.hello()
    if timing.on(device) == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("the GPU is gone")
    rows.free()
    torch.manual_seed(SEED)
    bench = Bench(device, file, config["device"])
    try:
        result = WHAT[config["what"]](config, bench) | {"refused": None}
        timing.wait(device)  # what was queued and fails, fails in its own row
        return result
    except Exception as error:  # a compiler's own errors have no common base
        refused = {"refused": configs.one_line(error)}
        fatal = any(mark in str(error) for mark in ("CUDA error", "CUDA driver error"))
        return refused | ({recording.WORN: True} if fatal else {})


# --- inputs


def width(method: str) -> int:
    """Bits of a packed method's codes."""
    return int(method[2])


def vector_bytes(method: str, dim: int = DIM) -> int:
    """Bytes of one stored key or value, its norm included."""
    if method in PACKED:
        return dim * width(method) // 8 + 2
    return dim * BYTES[method.split("-")[0]]


def _query(config: dict, bench: Bench):
    import torch

    shape = (config["batch"], HEADS * config["group"], DIM)
    return torch.randn(shape, device=bench.device, dtype=torch.bfloat16)


def _side(config: dict, bench: Bench, seed: int | None = None):
    """Keys or values of a row: random numbers in the method's type, or codes.

    With a ``seed`` codes are those of normal vectors; without, any bytes, which are codes too.
    """
    import torch

    batch, tokens, method = config["batch"], config["context"], config["method"]
    if method not in PACKED:
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
        kind = kinds[method.split("-")[0]]
        side = torch.empty(batch, HEADS, tokens, DIM, device=bench.device, dtype=kind)
        for row in side:  # one sequence at a time: fp8 is drawn in bf16
            row.copy_(torch.randn(row.shape, device=bench.device, dtype=torch.bfloat16))
        return side
    from sizewise.quantization.kernels import Packed

    coder = _coder(width(method), seed or 0)
    x = torch.randn(*((batch, HEADS, tokens) if seed else (1, HEADS, 8)), DIM, device=bench.device)
    coded = coder.encode(x)
    matrix = coder.rotation.matrix(torch.device(bench.device))
    packed = Packed(
        coded.packed, coded.norms, width(method), coder.codebook.to(bench.device), matrix
    )
    if seed:
        return packed
    size = (batch, HEADS, tokens, DIM * width(method) // 8)
    codes = torch.randint(256, size, dtype=torch.uint8, device=bench.device)
    norms = (torch.rand(batch, HEADS, tokens, device=bench.device) + 0.5) * DIM**0.5
    return packed.over(codes, norms.half())


@lru_cache(maxsize=8)
def _coder(bits: int, seed: int):
    from sizewise.quantization.turboquant import codec

    return codec.TurboQuant(DIM, bits, seed=seed)


# --- methods


def attend(query, keys, values, lengths, method: str, dtype=None):
    """Attention by a method, (batch, query heads, d).

    ``lengths`` int32 (batch) and ``dtype`` of the answer count for the kernels of this book; torch
    reads the whole cache. Raises RuntimeError or what a library raises where a method does not run.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from sizewise.quantization import kernels

    if method in PACKED:
        return kernels.attend(query, keys, values, lengths, dtype=dtype)
    kernel = method.split("-")[1]
    if kernel == "triton":
        if kernels.backend(query.device) != "triton":
            raise RuntimeError("Triton does not run here")
        from sizewise.quantization.kernels import dense

        return dense.attend(query, keys, values, lengths, dtype=dtype)
    backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[kernel]
    batch, heads, d = query.shape
    folded = query.view(batch, keys.shape[1], -1, d)  # no mask, so the same sums
    with sdpa_kernel(backend):
        out = torch.nn.functional.scaled_dot_product_attention(folded, keys, values)
    return out.reshape(batch, heads, d)


def scores(query, keys, method: str):
    """q k / sqrt(d) for every token, fp32 (batch, query heads, tokens): packed, or one product."""
    import torch

    from sizewise.quantization import kernels

    if method in PACKED and kernels.backend(query.device) == "triton":
        from sizewise.quantization.kernels import Tuning, logits

        return logits.packed(query, keys, DIM**-0.5, Tuning(block=128))
    if method in PACKED:
        keys = kernels.reference.vectors(keys).float()
    q = query.to(keys.dtype).view(len(query), HEADS, -1, DIM) * DIM**-0.5
    product = torch.matmul(q, keys.transpose(-1, -2)).float()
    return product.flatten(1, 2)


# --- rows


def check(config: dict, bench: Bench) -> dict:
    """The error against float64 on fresh inputs; kernels of this book on sequences of uneven
    length, the last of one token. Answers are fp32 where a method lets us choose."""
    import torch

    from sizewise.quantization.kernels import backend, reference

    method, batch, tokens = config["method"], config["batch"], config["context"]
    query, keys, values = _query(config, bench), *(_side(config, bench, seed) for seed in (1, 2))
    lengths = torch.full((batch,), tokens, dtype=torch.int32)
    if method in PACKED or method.endswith("-triton"):
        lengths = torch.tensor([max(1, tokens // 2**n) for n in range(batch)], dtype=torch.int32)
        lengths[-1] = 1
    got = attend(query, keys, values, lengths.to(bench.device), method, dtype=torch.float32)
    if method in PACKED:
        keys, values = reference.vectors(keys), reference.vectors(values)
    truth = reference.over(
        query, keys.double(), values.double(), lengths.to(bench.device), DIM**-0.5
    )
    return {"error": worst(got, truth), "backend": backend(query.device)}


def check_append(config: dict, bench: Bench) -> dict:
    """The share of coordinates whose code differs from float64's: those beside a boundary."""
    import torch

    from sizewise.quantization import kernels, packing
    from sizewise.quantization.kernels import reference

    packed, bits = _side(config, bench, 1), width(config["method"])
    x = torch.randn((*packed.codes.shape[:3], DIM), device=bench.device, dtype=torch.bfloat16)
    start = torch.zeros(len(x), dtype=torch.int32, device=bench.device)
    kernels.append(x, packed, start)
    codes, norms = reference.quantize(x, packed)
    ours, true = (packing.unpack(part, bits, DIM) for part in (packed.codes, codes))
    return {
        "error": float((ours != true).double().mean()),
        "norms_differ": float((packed.norms != norms).double().mean()),
        "backend": kernels.backend(x.device),
    }


def ceiling(config: dict, bench: Bench) -> dict:
    """Bytes a second of copying (read and written) and of reading alone (a sum)."""
    size = (1 << 32) if timing.on(bench.device) == "cuda" else (1 << 26)
    call, moved = ceilings.memory(config["method"], size, bench.device)
    timed = graph_timing.timed([call], bench.device)
    return timed | {"bytes": int(moved), "rate": moved / timed["us_low"] * 1e6}


def time_attention(config: dict, bench: Bench) -> dict:
    """One new token in each sequence: time, and the bytes that must be read.

    Caches take turns, so that each is read from memory. Raises RuntimeError for a method that was
    not checked on this device, or was wrong.
    """
    import torch

    method, batch, tokens = config["method"], config["batch"], config["context"]
    demand("check", method, bench)
    size = batch * HEADS * tokens * 2 * vector_bytes(method)
    query = _query(config, bench)
    lengths = torch.full((batch,), tokens, dtype=torch.int32, device=bench.device)

    def call():
        keys, values = (_side(config, bench) for _ in range(2))
        return lambda: attend(query, keys, values, lengths, method)

    calls = [call() for _ in range(graph_timing.copies(size, bench.device))]
    return graph_timing.timed(calls, bench.device) | {"bytes": size}


def time_scores(config: dict, bench: Bench) -> dict:
    """Scores of one new token against all keys, written in fp32; refused if they are wrong."""
    from sizewise.quantization.kernels import reference

    method = config["method"]
    query, keys = _query(config, bench), _side(config, bench)
    vectors = reference.vectors(keys) if method in PACKED else keys.double()
    q = query.double().view(len(query), HEADS, -1, DIM)
    truth = (DIM**-0.5 * q @ vectors.transpose(-1, -2)).flatten(1, 2)
    error = worst(scores(query, keys, method), truth)
    _refuse(error, method)
    size = (
        config["batch"] * HEADS * config["context"] * (vector_bytes(method) + 4 * config["group"])
    )
    copies = [
        keys,
        *(_side(config, bench) for _ in range(1, graph_timing.copies(size, bench.device))),
    ]
    calls = [lambda keys=keys: scores(query, keys, method) for keys in copies]
    return graph_timing.timed(calls, bench.device) | {"bytes": size, "error": error}


def time_append(config: dict, bench: Bench) -> dict:
    """Quantize ``context`` new keys and values of each sequence into caches in turn."""
    import torch

    from sizewise.quantization import kernels

    method, batch, new = config["method"], config["batch"], config["context"]
    demand("check-append", method, bench)
    moved = 2 * batch * HEADS * new * (2 * DIM + vector_bytes(method))
    start = torch.zeros(batch, dtype=torch.int32, device=bench.device)

    def call():
        sides = [_side(config, bench) for _ in range(2)]
        x = torch.randn(batch, HEADS, new, DIM, device=bench.device, dtype=torch.bfloat16)
        return lambda: [kernels.append(x, side, start) for side in sides]

    number = min(64, graph_timing.copies(moved, bench.device))
    return graph_timing.timed([call() for _ in range(number)], bench.device) | {"bytes": moved}


def capacity(config: dict, bench: Bench) -> dict:
    """Tokens of one sequence that fit beside the model's bf16 weights, allocated to be sure."""
    import torch

    from sizewise.models import parameters

    if timing.on(bench.device) == "cpu":
        raise RuntimeError("what fits is measured on a GPU only")
    described = parameters.describe(config["model"])
    each = sum(
        layer.attention.kv_heads * 2 * vector_bytes(config["method"], layer.attention.head_dim)
        for layer in described.layers
    )  # bytes a token
    free = torch.cuda.mem_get_info()[0] - 2 * described.total - SPARE
    if free < each:
        raise RuntimeError(f"the weights, {2 * described.total / 1e9:.0f} GB, leave no room")
    sizes = (2 * described.total, free // each * each)
    weights, cache = (torch.empty(n, dtype=torch.uint8, device=bench.device) for n in sizes)
    return {
        "tokens": cache.numel() // each,
        "bytes": cache.numel(),
        "weight_bytes": weights.numel(),
    }


WHAT = {
    "check": check,
    "check-append": check_append,
    "ceiling": ceiling,
    "attend": time_attention,
    "logits": time_scores,
    "append": time_append,
    "capacity": capacity,
}


def worst(got, truth) -> float:
    """|got - truth| / |truth| of the worst row; both (..., d)."""
    apart = (got.double() - truth.double()).norm(dim=-1)
    return float((apart / truth.double().norm(dim=-1)).max())


def demand(what: str, method: str, bench: Bench) -> None:
    """Raise RuntimeError unless the method was checked on this device and was right."""
    checks = [row for row in bench.rows(what) if row["method"] == method and not row["refused"]]
    if not checks:
        raise RuntimeError("not timed: it was not checked on this device")
    _refuse(max(row["error"] for row in checks), method, CODES if what != "check" else None)


def _refuse(error: float, method: str, most: float | None = None) -> None:
    most = most or LIMITS["packed" if method in PACKED else "plain"]
    if not error <= most:
        raise RuntimeError(f"not timed: its error against float64 is {error:.2g}, over {most:g}")


def against_best(row: dict, before: list[dict]) -> dict:
    """Share of the copy's speed, and how much faster than the best plain row of the same shape.

    Plain rows come before packed ones, so that the best is known; a row is not compared with its
    own kind. Nothing for rows of other kinds, and for methods that do not run.
    """
    if row["what"] not in ("attend", "logits") or row["refused"]:
        return {}
    ran = [other for other in before if not other.get("refused")]
    ran = [other for other in ran if other["device"] == row["device"]]
    copy = [
        other["rate"] for other in ran if (other["what"], other["method"]) == ("ceiling", "copy")
    ]
    columns = {"share_of_copy": row["bytes"] / row["us"] * 1e6 / copy[0] if copy else None}
    rivals = [
        other
        for other in ran
        if other["what"] == row["what"] and all(other[name] == row[name] for name in SAME)
    ]
    for kind in BYTES:
        best = min((r["us"] for r in rivals if r["method"].startswith(kind)), default=None)
        own = row["method"].startswith(kind)
        columns[f"over_{kind}"] = best / row["us"] if best and not own else None
    return columns
