"""The ways to attend to a cache, each with its own kernel: one new token in every sequence.

A query is (batch, query heads, d); plain keys and values (batch, kv heads, tokens, d). A method's
name is its cache's type, then the kernel, then whether the heads of a group are folded.
"""

from math import log2

from .inputs import DIM, HEADS, PACKED, Bench, kind

TILE = 128  # tokens of a program that computes scores alone


LAUNCH = ("block", "warps", "stages", "waves", "lookup", "overlap")  # columns of a launch


def own(method: str) -> bool:
    """Whether a method is a kernel of this book, whose launch is ours to choose."""
    return method in PACKED or method.endswith("-triton")


def default(method: str):
    """The launch of a kernel that was not tuned; fp32 in tiles half as long, of as many bytes."""
    from sizewise.quantization.kernels import Tuning

    return Tuning(block=32) if method == "fp32-triton" else Tuning()


def tuning(config: dict, bench: Bench):
    """The launch that a row states, filled up with the fastest that was recorded for its kernel
    at the nearest batch, or the default. A row that states a tile, or a check, takes nothing from
    what was recorded. fp16 and fp32 share what bf16 found.
    """
    from dataclasses import replace

    method = config["method"]
    launch = default(method)
    if "block" not in config and config["what"] != "check":
        wanted = method if method in PACKED or kind(method) == "fp8" else "bf16-triton"
        tried = [row for row in bench.tried() if row["method"] == wanted]
        apart = {row["batch"]: abs(log2(row["batch"] / config["batch"])) for row in tried}
        near = min(apart, key=apart.get, default=None)
        tried = [row for row in tried if row["batch"] == near]
        if tried:
            told = min(tried, key=lambda row: row["us"])
            launch = replace(launch, **{name: told[name] for name in LAUNCH})
            if kind(method) == "fp32":
                launch = replace(launch, block=max(16, launch.block // 2))
    return replace(launch, **{name: config[name] for name in LAUNCH if name in config})


def attend(query, keys, values, lengths, method: str, launch, bench: Bench, dtype=None):
    """Attention by any method; (batch, query heads, d) in the query's type.

    ``lengths`` int32 (batch) and ``dtype`` of the answer count for the kernels of this book; the
    others read the whole cache.
    Raises RuntimeError, ImportError or what a library raises where a method does not run.
    """
    if method in PACKED:
        from sizewise.quantization import kernels

        return kernels.attend(query, keys, values, lengths, tuning=launch, dtype=dtype)
    _, name, *more = method.split("-")
    if name == "triton":
        needs_triton(bench)
        from sizewise.quantization.kernels import dense

        return dense.attend(query, keys, values, lengths, tuning=launch, dtype=dtype)
    if name == "flash" and more == ["attn"]:
        from flash_attn import flash_attn_with_kvcache

        return flash_attn_with_kvcache(
            query[:, None], keys.transpose(1, 2), values.transpose(1, 2)
        )[:, 0]
    if name == "flex":
        return flex(bench)(query[:, :, None], keys, values, enable_gqa=True)[:, :, 0]
    return by_torch(query, keys, values, name, folded=bool(more))


def by_torch(query, keys, values, name: str, folded: bool):
    """torch's attention held to one of its kernels."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    batch, heads, d = query.shape
    kinds = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    sdpa = torch.nn.functional.scaled_dot_product_attention
    with sdpa_kernel(kinds[name]):
        if folded:  # the heads of a group as queries of one head: no mask, so the same sums
            rows = query.view(batch, keys.shape[1], -1, d)  # (batch, kv heads, group, d)
            return sdpa(rows, keys, values).reshape(batch, heads, d)
        return sdpa(query[:, :, None], keys, values, enable_gqa=True)[:, :, 0]


_compiled: dict = {}


def flex(bench: Bench):
    """FlexAttention, compiled for each shape anew (see `forget_compiled`)."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    if "flex" not in _compiled:
        if bench.device == "cpu":
            raise RuntimeError("FlexAttention is measured on a GPU only")
        _compiled["flex"] = torch.compile(flex_attention, dynamic=False)
    return _compiled["flex"]


def forget_compiled() -> None:
    """Drop what was compiled for the row before: after eight shapes torch would compile no more
    and run FlexAttention as it is written, with all scores in memory.
    """
    if _compiled.pop("flex", None) is not None:
        import torch

        torch._dynamo.reset()


def scores(query, keys, method: str, bench: Bench):
    """scale q k for every place of the cache, fp32: packed (batch, query heads, tokens)."""
    if method in PACKED:
        if not bench.triton:
            from sizewise.quantization.kernels import reference

            return product(query.float(), reference.vectors(keys).float())
        from sizewise.quantization.kernels import Tuning, logits

        return logits.packed(query, keys, DIM**-0.5, Tuning(block=TILE))
    if method.endswith("torch"):
        return product(query, keys)
    needs_triton(bench)
    from sizewise.quantization.kernels import Tuning, logits

    return logits.plain(query, keys, DIM**-0.5, Tuning(block=TILE))


def product(query, keys):
    """The scores as one matrix product: (batch, kv heads, group, tokens) fp32."""
    import torch

    q = query.view(len(query), HEADS, -1, DIM) * DIM**-0.5
    return torch.matmul(q, keys.transpose(-1, -2)).float()


def needs_triton(bench: Bench) -> None:
    if not bench.triton:
        raise RuntimeError("Triton does not run here")
