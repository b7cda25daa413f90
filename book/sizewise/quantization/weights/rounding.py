"""Matrices rounded to a format and put back: what it costs in quality, without its kernels.

A model's answers depend on the values that its codes stand for, not on how they are multiplied
(but for LLM.int8(), which rounds activations too and is converted for good). Where groups of
weights begin is arbitrary, and another start is another rounding: ``shift`` moves the columns
round by so many before encoding and back after it.
"""

from dataclasses import dataclass

from sizewise.quantization import tensor_bytes

from . import calibrated, convert, layers


@dataclass(frozen=True)
class Rounded:
    """Weights that were rounded, and the bytes of their codes, scales and tables."""

    elements: int
    nbytes: int


def round_matrices(model, name: str, *, shift: int = 0, calibration=None) -> Rounded:
    """Round every linear layer but the output head to format ``name``, in place.

    Layers whose width the format's group does not divide stay as they are. Raises ValueError as
    `convert.convert` does, and for LLM.int8() with a shift, which has no groups.
    """
    import torch

    form = layers.FORMATS[name]
    if name == "int8":
        if shift:
            raise ValueError("LLM.int8() has a scale a row: shifting its columns changes nothing")
        done = convert.convert(model, name)
        return Rounded(done.weights, done.stored.codes + done.stored.scales)
    selected, _ = convert.select_layers(model, form)
    paths = sorted(selected & set(convert.linear_layers(model)))
    moments = calibrated.second_moments(model, calibration, paths) if form.calibrated else {}
    elements = nbytes = 0
    with torch.no_grad():
        for path in paths:
            weight = model.get_submodule(path).weight
            moved = None if path not in moments else moments[path].roll((shift, shift), (0, 1))
            value, size = round_matrix(weight.detach().float().roll(shift, 1), name, moved)
            weight.copy_(value.roll(-shift, 1))
            elements, nbytes = elements + weight.numel(), nbytes + size
    return Rounded(elements, nbytes)


def round_matrix(weight, name: str, moments=None):
    """The values that a format has for a weight (out, in), fp32, and the bytes that they take."""
    form = layers.FORMATS[name]
    layer = form.make(layers.linear_of(weight), weight.device, moments)
    return form.decode(layer).float(), tensor_bytes.measure_bytes(layer).total
