"""Codes that look at what enters a layer: GPTQ and activation-aware scaling, on any device.

Both see a layer's inputs x (n, in) through their second moments H = mean(x x^T) alone, since the
squared error of its outputs is tr((W - Q) H (W - Q)^T). Inputs are those of the model in full
precision, of all layers in one pass (the papers go layer by layer, through what is quantized
already). Both store even steps in groups of `codecs.GROUP`, as rounding to the nearest does.
"""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from . import codecs
from .codecs import GROUP, Codec, Tensors

DAMPING = 0.01  # of H's mean diagonal, added to it: GPTQ section 3.3
STRENGTHS = 20  # exponents from 0 to 1 that AWQ tries: its section 3.2


def second_moments(model, windows: np.ndarray, paths: Iterable[str], batch: int = 4) -> dict:
    """H, fp32 (in, in), of each linear layer in ``paths`` over the tokens of ``windows`` (n, T).

    Raises ValueError for a layer that these tokens never reach.
    """
    import torch

    moments, counts = {}, {}

    def watch(path: str) -> Callable:
        def hook(module, inputs) -> None:
            x = inputs[0].detach().flatten(0, -2).float()  # (tokens, in)
            moments[path] = moments.get(path, 0) + x.T @ x
            counts[path] = counts.get(path, 0) + len(x)

        return hook

    hooks = [model.get_submodule(path).register_forward_pre_hook(watch(path)) for path in paths]
    ids, device = torch.as_tensor(np.asarray(windows)), next(model.parameters()).device
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            for first in range(0, len(ids), batch):
                model(input_ids=ids[first : first + batch].to(device))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    if missing := [path for path in paths if path not in moments]:
        raise ValueError(f"no token of the calibration text reaches {missing[0]}")
    return {path: moments[path] / counts[path] for path in moments}


def output_errors(weight, other, moments):
    """Mean squared error of each output of a layer, fp64 (out,): diag((W - Q) H (W - Q)^T)."""
    error = (weight - other).double()
    return (error @ moments.double() * error).sum(1)


def encode_gptq(weight, moments, bits: int) -> Tensors:
    """GPTQ (Frantar et al. 2022, algorithm 1): round a column, move its error to those not yet
    rounded.

    A group's grid is set before its first column, on the weights as moved so far. A row whose
    nearest rounding happens to do better keeps that one, so that no layer gets worse.
    """
    import torch

    nearest_step, nearest_offset = codecs.grid(weight, bits)
    nearest = codecs.integers(weight, nearest_step, nearest_offset, bits)
    damped = moments.double().clone()
    damped.diagonal().add_(DAMPING * damped.diagonal().mean().clamp(min=1e-12))
    # Row i of U, upper triangular with U^T U = H^-1, is what column i's error does to the rest.
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, upper = weight.clone().float(), upper.float()
    step, offset = torch.empty_like(nearest_step), torch.empty_like(nearest_offset)
    codes = torch.empty_like(nearest)
    for number, first in enumerate(range(0, weight.shape[1], GROUP)):
        current = slice(first, first + GROUP)
        step[:, number], offset[:, number] = (
            part[:, 0] for part in codecs.grid(left[:, current].contiguous(), bits)
        )
        fine, low = step[:, number].float(), offset[:, number].float()
        fine = fine.masked_fill(fine == 0, 1.0)
        errors = torch.empty_like(left[:, current])
        for column in range(first, first + GROUP):
            code = ((left[:, column] - low) / fine).round().clamp(0, 2**bits - 1)
            codes[:, column] = code.byte()
            error = (left[:, column] - (code * fine + low)) / upper[column, column]
            left[:, column + 1 : current.stop] -= torch.outer(
                error, upper[column, column + 1 : current.stop]
            )
            errors[:, column - first] = error
        left[:, current.stop :] -= errors @ upper[current, current.stop :]
    rounded, plain = (codes, step, offset), (nearest, nearest_step, nearest_offset)
    decode = codecs.decode_integers(bits)
    errors, least = (
        output_errors(weight, decode(codecs.stored_integers(*parts, bits)), moments)
        for parts in (rounded, plain)
    )
    for part, other in zip(rounded, plain, strict=True):
        part[errors > least] = other[errors > least]
    return codecs.stored_integers(*rounded, bits)


def encode_awq(weight, moments, bits: int) -> Tensors:
    """Columns scaled by the size of their inputs before rounding, the exponent by search.

    AWQ (Lin et al. 2023, section 3.2): s = size^a, a of 0 to 1 with the least output error. The
    size is the root mean square here, the mean magnitude there. Scales are kept in fp16 with the
    layer; AWQ folds them into what comes before it. An exponent of 0 is plain rounding.
    """
    import torch

    size = moments.diagonal().clamp(min=1e-12).sqrt()  # (in,)
    best, lowest = None, float("inf")
    for strength in torch.linspace(0, 1, STRENGTHS + 1)[:-1].tolist():
        scale = size**strength
        scale = (scale / (scale.max() * scale.min()).sqrt()).half()
        coded = codecs.CODECS[f"int{bits}"].encode(weight * scale.float()) | {
            "column_scales": scale
        }
        error = float(output_errors(weight, decode_awq(bits)(coded), moments).sum())
        if error < lowest:
            best, lowest = coded, error
    return best


def decode_awq(bits: int) -> Callable:
    def decode(tensors: Tensors):
        return codecs.decode_integers(bits)(tensors) / tensors["column_scales"].float()

    return decode


# ``encode(weight, moments)`` here: a codec of `codecs.CODECS` needs the weight alone.
CALIBRATED = {
    f"{name}{bits}": Codec(
        f"{name}{bits}",
        f"even steps in groups of 64, {note}",
        bits,
        partial(encode, bits=bits),
        decode(bits),
        GROUP,
    )
    for name, note, encode, decode in (
        ("gptq", "GPTQ", encode_gptq, codecs.decode_integers),
        ("awq", "columns scaled by their inputs", encode_awq, decode_awq),
    )
    for bits in (4, 3)
}
