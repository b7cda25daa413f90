"""Checks against float64, and the time of quantizing new keys and values into a cache."""

from . import kv_inputs, kv_methods, replays
from .kv_inputs import DIM, HEADS, PACKED, Bench, vector_bytes

BEFORE, ROOM = 1000, 4096  # tokens that the cache holds, and room beside the new ones


def check(config: dict, bench: Bench) -> dict:
    """The error against float64 on fresh inputs, sequences of uneven length."""
    import torch

    from ..quant.kernels import reference

    method, batch, tokens = config["method"], config["batch"], config["context"]
    query = torch.randn(batch, HEADS * config["group"], DIM, device=bench.device)
    lengths = torch.tensor([tokens, tokens // 2, 1], dtype=torch.int32, device=bench.device)
    launch, scale = kv_methods.tuning(config, bench), DIM**-0.5
    if method in PACKED:
        keys, values = (kv_inputs.encoded(batch, tokens, method, seed, bench) for seed in (1, 2))
        truth = reference.attend(query, keys, values, lengths, scale)
    else:
        keys, values = (kv_inputs.plain(batch, tokens, method, bench) for _ in range(2))
        query = query.to(torch.float32 if kv_inputs.kind(method) == "fp32" else torch.bfloat16)
        truth = reference.over(query, keys.float(), values.float(), lengths, scale)
    got = kv_methods.attend(query, keys, values, lengths, method, launch, bench)
    error = float((got.double() - truth).norm() / truth.norm())
    return {"error": error, "backend": bench.backend}


def check_append(config: dict, bench: Bench) -> dict:
    """The share of coordinates whose code differs from float64's: those beside a boundary."""
    import torch

    from ..quant import kernels, packing
    from ..quant.kernels import reference

    method, batch, new = config["method"], config["batch"], config["context"]
    packed = kv_inputs.encoded(batch, new, method, 1, bench)
    packed.codes.fill_(0xFF)
    x = torch.randn(batch, HEADS, new, DIM, device=bench.device)
    kernels.append(x, packed, torch.zeros(batch, dtype=torch.int32, device=bench.device))
    codes, norms = reference.quantize(x, packed)
    width = kv_inputs.bits(method)
    ours, true = (packing.unpack(one, width, DIM) for one in (packed.codes, codes))
    return {
        "error": float((ours != true).double().mean()),
        "norms_differ": float((packed.norms != norms).double().mean()),
        "backend": bench.backend,
    }


def append(config: dict, bench: Bench) -> dict:
    """Quantize new keys and values (both) into the cache; ``context`` is new tokens here."""
    import torch

    from ..quant import kernels

    method, batch, new = config["method"], config["batch"], config["context"]
    sides = [kv_inputs.packed(batch, new + ROOM, method, bench) for _ in range(2)]
    x = torch.randn(batch, HEADS, new, DIM, device=bench.device, dtype=torch.bfloat16)
    start = torch.full((batch,), BEFORE, dtype=torch.int32, device=bench.device)
    told = replays.timed([lambda: [kernels.append(x, side, start) for side in sides]], bench.device)
    moved = 2 * batch * HEADS * new * (2 * DIM + vector_bytes(method))
    return told | {"bytes": moved}
