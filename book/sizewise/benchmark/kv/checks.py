"""What a method answers against float64, and the refusal to time what is not right."""

from . import inputs, methods
from .inputs import DIM, HEADS, PACKED, Bench

CODES = 1e-3  # share of codes that may differ: rounding beside a boundary is a thousand times less
LAST = 1024  # tokens whose scores are checked before all of them are timed


def limit(method: str) -> float:
    """The largest error, of the norm of a head's answer, with which a method is timed."""
    return 1e-3 if method in PACKED else 1e-2


def worst(got, truth) -> float:
    """|got - truth| / |truth| of the worst row; both (..., d)."""
    apart = (got.double() - truth.double()).norm(dim=-1)
    return float((apart / truth.double().norm(dim=-1)).max())


def check(config: dict, bench: Bench) -> dict:
    """The error against float64 on fresh inputs; kernels of this book on sequences of uneven
    length, the last of one token. Queries have the type that is timed, answers are fp32 where a
    method lets us choose.
    """
    import torch

    method, batch, tokens = config["method"], config["batch"], config["context"]
    others = config.get("values", method)
    query = inputs.query(config, bench)
    lengths = torch.full((batch,), tokens, dtype=torch.int32)
    if methods.own(method):
        lengths = torch.tensor([max(1, tokens // 2**n) for n in range(batch)], dtype=torch.int32)
        lengths[-1] = 1
    keys, values = (_filled(config, one, seed, bench) for one, seed in ((method, 1), (others, 2)))
    launch = methods.tuning(config, bench)
    placed = lengths.to(bench.device)
    got = methods.attend(query, keys, values, placed, method, launch, bench, dtype=torch.float32)
    errors = []
    for place, length in enumerate(lengths.tolist()):  # one by one: float64 takes room
        truth = _truth(query[place : place + 1], keys, values, place, length)
        errors.append(worst(got[place : place + 1], truth))
    return {"error": max(errors), "backend": bench.backend}


def _filled(config: dict, method: str, seed: int, bench: Bench):
    """Keys or values of a check, at the beginning of a larger cache where ``capacity`` says so."""
    batch, tokens, dim = config["batch"], config["context"], config["dim"]
    made = (
        inputs.encoded(batch, tokens, method, seed, bench, dim)
        if method in PACKED
        else inputs.plain(batch, tokens, method, bench, dim)
    )
    room = config.get("capacity", tokens)
    if room == tokens:
        return made

    def placed(x):
        larger = x.new_empty(*x.shape[:2], room, *x.shape[3:])
        larger[:, :, :tokens] = x
        return larger

    return made.over(placed(made.codes), placed(made.norms)) if method in PACKED else placed(made)


def _truth(query, keys, values, place: int, length: int):
    """Attention of one sequence in float64: (1, query heads, d)."""
    import torch

    from sizewise.quantization.kernels import reference

    one = (slice(place, place + 1), slice(None), slice(0, length))
    if hasattr(keys, "codes"):
        keys, values = (
            reference.vectors(side.over(side.codes[one], side.norms[one]))
            for side in (keys, values)
        )
    else:
        keys, values = keys[one].float(), values[one].float()
    held = torch.tensor([length], device=query.device)
    return reference.over(query, keys, values, held, query.shape[-1] ** -0.5)


def check_append(config: dict, bench: Bench) -> dict:
    """The share of coordinates whose code differs from float64's: those beside a boundary."""
    import torch

    from sizewise.quantization import kernels, packing
    from sizewise.quantization.kernels import reference

    method, batch, new = config["method"], config["batch"], config["context"]
    packed = inputs.encoded(batch, new, method, 1, bench)
    packed.codes.fill_(0xFF)
    x = torch.randn(batch, HEADS, new, DIM, device=bench.device, dtype=torch.bfloat16)
    kernels.append(x, packed, torch.zeros(batch, dtype=torch.int32, device=bench.device))
    codes, norms = reference.quantize(x, packed)
    width = inputs.bits(method)
    ours, true = (packing.unpack(one, width, DIM) for one in (packed.codes, codes))
    return {
        "error": float((ours != true).double().mean()),
        "norms_differ": float((packed.norms != norms).double().mean()),
        "backend": bench.backend,
    }


def demand(method: str, launch, bench: Bench) -> None:
    """Raise RuntimeError unless the method was checked on this device and was right.

    A launch that overlaps, or with another look-up, needs a check that had the same; checks with
    what the launch does not use say nothing about it.
    """
    uses = {"overlap": launch.overlap, "gather": launch.lookup == "gather"}
    ran, why = [], "it was not checked on this device"
    for row in bench.rows("check"):
        had = {"overlap": bool(row.get("overlap")), "gather": row.get("lookup") == "gather"}
        if row["method"] != method or any(had[name] and not uses[name] for name in uses):
            continue
        if row["refused"]:
            why = row["refused"]
            continue
        ran.append(had)
        if not row["error"] <= limit(method):
            raise RuntimeError(
                f"not timed: its error against float64 is {row['error']:.2g}, "
                f"more than {limit(method):g}"
            )
    if not ran:
        raise RuntimeError(f"not timed: {why}")
    for name in uses:
        if uses[name] and not any(had[name] for had in ran):
            raise RuntimeError(f"not timed: no check with {name} ran on this device")


def demand_append(method: str, bench: Bench) -> None:
    """The same for quantizing new vectors."""
    ran = [
        row for row in bench.rows("check-append") if row["method"] == method and not row["refused"]
    ]
    if not ran:
        raise RuntimeError("not timed: it was not checked on this device")
    if not max(row["error"] for row in ran) <= CODES:
        raise RuntimeError(f"not timed: more than {CODES:g} of the codes differ from float64's")


def like_default(query, keys, values, lengths, method: str, launch, bench: Bench) -> float | None:
    """How far the answer is from that of the default launch; None if it is that one.

    Raises RuntimeError if it is further than a method may err.
    """
    import torch

    default = methods.default(method)
    if launch == default or not bench.triton:
        return None
    one, other = (
        methods.attend(query, keys, values, lengths, method, each, bench, torch.float32)
        for each in (launch, default)
    )
    apart = worst(one, other)
    if not apart <= limit(method):
        raise RuntimeError(f"not timed: this launch and the default differ by {apart:.2g}")
    return apart


def scores_right(query, keys, method: str, bench: Bench) -> float:
    """The error of the last scores of each head against float64's; RuntimeError if too large."""
    from sizewise.quantization.kernels import reference

    packed = method in PACKED
    last = (slice(None), slice(None), slice(-LAST, None))
    vectors = (
        reference.vectors(keys.over(keys.codes[last], keys.norms[last]))
        if packed
        else keys[last].double()
    )
    d = query.shape[-1]
    q = query.double().view(len(query), vectors.shape[1], -1, d)
    truth = d**-0.5 * q @ vectors.transpose(-1, -2)  # (batch, kv heads, group, last)
    got = methods.scores(query, keys, method, bench)[..., -vectors.shape[2] :]
    error = worst(got.reshape(truth.shape), truth)
    if not error <= limit(method):
        raise RuntimeError(f"not timed: its error against float64 is {error:.2g}")
    return error
