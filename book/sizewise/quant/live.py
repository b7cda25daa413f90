"""The measurements of the chapter on weight quantization, made again on the reader's device."""

import copy
import statistics
from collections.abc import Iterable

from .. import processor
from . import held, quality, weights


def measure(name: str, formats: Iterable[str], *, documents: int = 8, context: int = 128):
    """One row a format: loss, divergence and bytes of a pretrained model, and time for a token.

    On the GPU where torch sees one, else on the CPU; the model is fetched if it is not here.
    ``ms_a_token`` is the median time of one forward pass over one token without a cache. Formats
    that this machine refuses are left out. Raises ValueError as `pretrained.load` does.
    """
    import pandas
    import torch

    from .. import pretrained
    from ..evals import texts

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = pretrained.load(name)
    sample = quality.of_texts(found.tokenizer, texts.fixed("sotu"), context, documents)
    original = found.model.to(device)
    before = quality.measure(original, sample)
    rows = []
    for form in formats:
        if weights.refusal(form, device):
            continue
        model, table = original, before
        if form != "fp32":
            model = weights.convert(copy.deepcopy(original), form, device=device).model
            table = quality.measure(model, sample, original)
        token = torch.from_numpy(sample.windows[:1, :1]).to(device)
        rows.append({
            "format": form, "device": device, **quality.compare(table, before),
            "held_bytes": held.of(model).total, "ms_a_token": 1e3 * _seconds(model, token),
        })  # fmt: skip
    return pandas.DataFrame(rows)


def _seconds(model, token) -> float:
    """Median seconds of a forward pass over one token."""
    import torch

    def step():
        with torch.inference_mode():
            model(input_ids=token, use_cache=False)
        if token.is_cuda:
            torch.cuda.synchronize()

    return statistics.median(processor.seconds(step, repeats=9))
