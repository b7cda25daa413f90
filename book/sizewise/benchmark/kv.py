"""Attention over a packed KV cache: checked against float64, then timed beside plain caches.

A method is the type of its cache, then the kernel: "tq4", "tq3" and "tq2" are this book's packed
codes; "bf16-triton", "fp8-triton" and "int8-triton" the same splits over plain numbers;
"bf16-flash" and "bf16-cudnn" torch's own attention, the heads of a group folded into queries of
one head; "fp8-flashinfer" FlashInfer's, where it is installed. Each function of a row takes its
configuration, a device, "cuda" or "cpu", and the rows recorded so far.
"""

import contextlib
from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sizewise.models import parameters
from sizewise.quantization import kernels, packing
from sizewise.quantization.kernels import Packed, reference
from sizewise.quantization.turboquant import codec

from . import recording, timing
from .recording import Refused

HEADS, DIM = 8, 128  # kv heads and their size in every shape: Llama 3.1 8B and 70B
PACKED = ("tq4", "tq3", "tq2")
TYPES = {
    **{"fp32": torch.float32, "bf16": torch.bfloat16},
    **{"fp8": torch.float8_e4m3fn, "int8": torch.int8},
}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
PAGE = 16  # tokens of FlashInfer's pages
SPARE = 2 << 30  # bytes to work with beside weights and cache
# Largest error of a head's answer that is timed. Packed: fp16 tables, queries and probabilities
# round by 2**-11 each, so that the worst of a hundred heads errs by 1e-3; another layout errs by 1.
LIMITS = {"packed": 4e-3, "plain": 1e-2}
SHAPE = ("method", "context", "batch", "group")  # what rows of attention differ in
CODES = 1e-3  # share of codes that may differ from float64's: those beside a boundary


def vector_bytes(method: str, dim: int = DIM) -> int:
    """Bytes of one stored key or value, its norm or scale included."""
    if method in PACKED:
        return packing.width(int(method[2]), dim) + 2
    kind = method.split("-")[0]
    return dim * TYPES[kind].itemsize + (2 if kind == "int8" else 0)


# --- inputs


def query(config: dict, device: str):
    """Random queries, bf16 (batch, query heads, d)."""
    shape = (config["batch"], HEADS * config["group"], DIM)
    return torch.randn(shape, device=device, dtype=torch.bfloat16)


def side(config: dict, device: str, seed: int | None = None):
    """Keys or values of a row: (numbers, scales or None), or `Packed` codes.

    With a ``seed`` codes are those of normal vectors; without, any bytes, which are codes too.
    """
    batch, tokens, method = config["batch"], config["context"], config["method"]
    shape = (batch, HEADS, tokens, DIM)
    norms = torch.rand(shape[:3], device=device).half() + 0.5
    if method.startswith("int8"):
        codes = torch.randint(-127, 128, shape, dtype=torch.int8, device=device)
        return codes, norms / 64
    if method not in PACKED:
        numbers = torch.empty(shape, device=device, dtype=TYPES[method.split("-")[0]])
        for row in numbers:  # one sequence at a time: fp8 is drawn in bf16
            row.copy_(torch.randn(row.shape, device=device, dtype=torch.bfloat16))
        return numbers, None
    bits = int(method[2])
    coder = _coder(bits, seed or 0)
    matrix, codebook = coder.rotation.matrix(torch.device(device)), coder.codebook.to(device)
    if seed:
        coded = coder.encode(torch.randn(shape, device=device))
        return Packed(coded.packed, coded.norms, bits, codebook, matrix)
    size = (*shape[:3], packing.width(bits, DIM))
    codes = torch.randint(256, size, dtype=torch.uint8, device=device)
    return Packed(codes, norms * DIM**0.5, bits, codebook, matrix)


@lru_cache(maxsize=8)
def _coder(bits: int, seed: int):
    return codec.TurboQuant(DIM, bits, seed=seed)


def vectors(stored):
    """The numbers that keys or values stand for, float64 (batch, kv heads, tokens, d)."""
    if isinstance(stored, Packed):
        return reference.vectors(stored)
    numbers, scales = stored
    return numbers.double() if scales is None else numbers.double() * scales.double()[..., None]


# --- methods


def prepared(q, keys, values, lengths, method: str, dtype=None) -> Callable:
    """A call that attends by a method, (batch, query heads, d).

    ``lengths`` int32 (batch) and ``dtype`` count for the kernels of this book; others read the
    whole cache. Raises `Refused` where a method does not run here.
    """
    if method in PACKED:
        return lambda: kernels.attend(q, keys, values, lengths, dtype=dtype)
    kernel = method.split("-")[1]
    if kernel == "triton":
        if kernels.backend(q.device) != "triton":
            raise Refused("Triton does not run here")
        from sizewise.quantization.kernels import decode

        return lambda: decode.attend(q, keys, values, lengths, dtype=dtype)
    if kernel == "flashinfer":
        return flashinfer(q, keys[0], values[0])
    folded = q.view(len(q), HEADS, -1, DIM)  # the heads of a group; no mask, so the same sums

    def by_torch():
        with sdpa_kernel(BACKENDS[kernel]):
            out = torch.nn.functional.scaled_dot_product_attention(folded, keys[0], values[0])
        return out.reshape(q.shape)

    return by_torch


def flashinfer(q, keys, values) -> Callable:
    """A call of FlashInfer's decode kernel (Ye et al. 2025) over the same numbers in pages.

    It is compiled at its first call, and planned once for all.
    """
    import flashinfer

    batch, heads, tokens, d = keys.shape
    split = (batch, heads, tokens // PAGE, PAGE, d)
    pages = tuple(
        side.view(split).transpose(1, 2).contiguous().view(-1, heads, PAGE, d)
        for side in (keys, values)
    )
    count = torch.arange(batch + 1, dtype=torch.int32, device=q.device) * (tokens // PAGE)
    every = torch.arange(len(pages[0]), dtype=torch.int32, device=q.device)
    room = torch.empty(1 << 27, dtype=torch.uint8, device=q.device)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(room, "HND", use_tensor_cores=True)
    kinds = {"q_data_type": q.dtype, "kv_data_type": keys.dtype}
    last = torch.full((batch,), PAGE, dtype=torch.int32, device=q.device)
    wrapper.plan(count, every, last, q.shape[1], heads, d, PAGE, **kinds)
    return lambda: wrapper.run(q, pages)


def scores(q, keys, method: str):
    """q k / sqrt(d) for every token, fp32 (batch, query heads, tokens): packed, or one product."""
    if method in PACKED and kernels.backend(q.device) == "triton":
        from sizewise.quantization.kernels import logits

        return logits.packed(q, keys)
    k = reference.vectors(keys, torch.float32) if method in PACKED else keys[0]
    folded = q.to(k.dtype).view(len(q), HEADS, -1, DIM) * DIM**-0.5
    return torch.matmul(folded, k.transpose(-1, -2)).float().flatten(1, 2)


# --- rows


def check(config: dict, device: str, rows: list) -> dict:
    """The error against float64 on fresh inputs; kernels of this book on sequences of uneven
    length, the last of one token. Answers are fp32 where a method lets us choose."""
    method, batch, tokens = config["method"], config["batch"], config["context"]
    q, keys, values = query(config, device), *(side(config, device, seed) for seed in (1, 2))
    lengths = torch.full((batch,), tokens, dtype=torch.int32)
    if method in PACKED or method.endswith("-triton"):
        lengths = torch.tensor([max(1, tokens // 2**n) for n in range(batch)], dtype=torch.int32)
        lengths[-1] = 1
    lengths = lengths.to(device)
    got = prepared(q, keys, values, lengths, method, dtype=torch.float32)()
    truth = reference.over(q.double(), vectors(keys), vectors(values), lengths, DIM**-0.5)
    return {"error": worst(got, truth), "backend": kernels.backend(q.device)}


def check_append(config: dict, device: str, rows: list) -> dict:
    """The share of coordinates whose code differs from float64's: those beside a boundary."""
    packed, bits = side(config, device, 1), int(config["method"][2])
    x = torch.randn((*packed.codes.shape[:3], DIM), device=device, dtype=torch.bfloat16)
    kernels.append(x, packed, torch.zeros(len(x), dtype=torch.int32, device=device))
    codes, _ = reference.quantize(x, packed)
    ours, true = (packing.unpack(part, bits, DIM) for part in (packed.codes, codes))
    return {"error": float((ours != true).double().mean()), "backend": kernels.backend(x.device)}


def time_attend(config: dict, device: str, rows: list) -> dict:
    """One new token in each sequence: time, and the bytes that must be read.

    Caches take turns, so that each is read from memory. Raises `Refused` for a method that was not
    checked on this device, or was wrong.
    """
    demand("check", config["method"], rows)
    return timed(config, device).columns("us", 1e6) | {"bytes": cache_bytes(config)}


def timed(config: dict, device: str) -> timing.Timing:
    """The time of one call, over as many caches as `timing.copies` says."""
    q = query(config, device)
    lengths = torch.full((len(q),), config["context"], dtype=torch.int32, device=device)
    calls = [
        prepared(q, side(config, device), side(config, device), lengths, config["method"])
        for _ in range(timing.copies(cache_bytes(config), device))
    ]
    return timing.time_rotating(calls, device)


def cache_bytes(config: dict) -> int:
    """Bytes of the keys and values of a row."""
    vectors = 2 * HEADS * config["batch"] * config["context"]
    return vectors * vector_bytes(config["method"])


def fastest(methods: list[str], config: dict, device: str) -> timing.Timing:
    """The time of the fastest of some plain kernels. Raises `Refused` where none runs here."""
    results = []
    for method in methods:
        with contextlib.suppress(RuntimeError, ImportError, Refused):  # it does not run here
            results.append(timed(config | {"method": method}, device))
    if not results:
        raise Refused("no kernel for these caches runs here")
    return min(results, key=lambda took: took.seconds[0])


def time_scores(config: dict, device: str, rows: list) -> dict:
    """Scores of one new token against all keys, written in fp32; refused if they are wrong."""
    method = config["method"]
    q, keys = query(config, device), side(config, device)
    folded = q.double().view(len(q), HEADS, -1, DIM)
    truth = (DIM**-0.5 * folded @ vectors(keys).transpose(-1, -2)).flatten(1, 2)
    error = worst(scores(q, keys, method), truth)
    recording.refuse_over(error, LIMITS["packed" if method in PACKED else "plain"])
    item = vector_bytes(method) + 4 * config["group"]
    size = config["batch"] * HEADS * config["context"] * item
    copies = [keys, *(side(config, device) for _ in range(1, timing.copies(size, device)))]
    calls = [lambda keys=keys: scores(q, keys, method) for keys in copies]
    timed = timing.time_rotating(calls, device)
    return timed.columns("us", 1e6) | {"bytes": size, "error": error}


def time_append(config: dict, device: str, rows: list) -> dict:
    """Quantize ``context`` new keys and values of each sequence into caches in turn."""
    method, batch, new = config["method"], config["batch"], config["context"]
    demand("check-append", method, rows)
    moved = 2 * batch * HEADS * new * (2 * DIM + vector_bytes(method))
    start = torch.zeros(batch, dtype=torch.int32, device=device)

    def call():
        sides = [side(config, device) for _ in range(2)]
        x = torch.randn(batch, HEADS, new, DIM, device=device, dtype=torch.bfloat16)
        return lambda: [kernels.append(x, packed, start) for packed in sides]

    calls = [call() for _ in range(timing.copies(moved, device))]
    return timing.time_rotating(calls, device).columns("us", 1e6) | {"bytes": moved}


def capacity(config: dict, device: str, rows: list) -> dict:
    """Tokens of one sequence that fit beside the model's bf16 weights, allocated to be sure."""
    if device == "cpu":
        raise Refused("what fits is measured on a GPU only")
    described = parameters.describe(config["model"])
    size = sum(
        layer.attention.kv_heads * 2 * vector_bytes(config["method"], layer.attention.head_dim)
        for layer in described.layers
    )  # bytes a token
    free = torch.cuda.mem_get_info()[0] - 2 * described.total - SPARE
    if free < size:
        raise Refused(f"the weights, {2 * described.total / 1e9:.0f} GB, leave no room")
    sizes = (2 * described.total, free // size * size)
    weights, cache = (torch.empty(n, dtype=torch.uint8, device=device) for n in sizes)
    return {"tokens": len(cache) // size, "bytes": len(cache), "weight_bytes": len(weights)}


ROWS = {
    **{"check": check, "check-append": check_append, "capacity": capacity},
    **{"attend": time_attend, "logits": time_scores, "append": time_append},
}


def worst(got, truth) -> float:
    """|got - truth| / |truth| of the worst row; both (..., d)."""
    distance = (got.double() - truth.double()).norm(dim=-1)
    return float((distance / truth.double().norm(dim=-1)).max())


def demand(kind: str, method: str, rows: list) -> None:
    """`recording.demand` of the checks of a method."""
    packed = "packed" if method in PACKED else "plain"
    limit = CODES if kind == "check-append" else LIMITS[packed]
    recording.demand(rows, limit, kind=kind, method=method)
