"""A model of a real shape with random weights, made where it will run and in its format.

Weights are drawn on the device itself, matrix by matrix, each converted to its format before the
next is drawn: a model never passes through the processor's memory, and never needs more than its
own bytes and one matrix. Random weights take the time of trained ones, since
dense products do not look at values; they say nothing about quality.
"""

from dataclasses import dataclass
from typing import Any

from sizewise.models import config as configs
from sizewise.models import parameters
from sizewise.models.architecture import Model

# Below the catalogue's models, for machines without a GPU: shapes, of nobody's training.
SMALL = {
    "llama-tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2},
    "llama-little": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6},
}
COMMON = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
}
PLAIN = ("fp32", "bf16", "fp16")
# LLM.int8() without its detour for large activations: the products alone.
WITHOUT_OUTLIERS = "int8-plain"


class Refused(ValueError):
    """A format that this machine cannot run."""


@dataclass(frozen=True)
class Built:
    """A model on its device. ``dtype`` is that of activations, cache and what is not quantized."""

    model: Any
    config: Any
    described: Model
    format: str
    dtype: Any
    device: str
    held: int  # bytes of all parameters and buffers


def spec(name: str) -> configs.Spec:
    """A name of `SMALL`, or anything that `configs.load` takes. Raises ValueError as it does."""
    if name in SMALL:
        return configs.Spec(name, COMMON | SMALL[name], "small shape")
    return configs.load(name)


def nominal(format: str) -> str:
    """The name in `costs.formats` of the weights of ``format``."""
    return {WITHOUT_OUTLIERS: "int8", "fp8-mm": "fp8", "int4-mm": "nf4"}.get(format, format)


def base(format: str) -> str:
    """The format of activations, cache, embeddings and head beside weights in ``format``.

    bitsandbytes multiplies its int8 weights with activations in fp16; the rest runs in bf16.
    """
    return format if format in PLAIN else "fp16" if nominal(format) == "int8" else "bf16"


def build(name: str, format: str, device: str, seed: int = 0) -> Built:
    """Materialise ``name`` in ``format`` on ``device``; the output head stays in `base`.

    Raises ValueError, in one line, for an unknown model or format and for a model whose layers
    are not where Llama has them; `Refused` for a format that cannot run here.
    """
    import torch

    from sizewise.models import random_weights
    from sizewise.quantization.weights import convert

    from . import gpu_layers

    form = gpu_layers.FORMATS.get(format, nominal(format))
    if reason := convert.refusal(form, device):
        raise Refused(f"{format} cannot run here: {reason}")
    least = gpu_layers.CAPABILITY.get(format, (0, 0))
    if device.startswith("cuda") and torch.cuda.get_device_capability() < least:
        raise Refused(f"{format} needs a GPU of compute capability {least[0]}.{least[1]}")
    wanted = spec(name)
    config = configs.build(wanted)
    config._attn_implementation = "sdpa"
    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    retained = names[base(format)]
    model = random_weights.empty(config, retained).requires_grad_(False)
    if not hasattr(getattr(model, "model", None), "layers"):
        raise ValueError(f"{name}: only decoders built like Llama are timed")
    fill = random_weights.at_random(seed)
    done = convert.convert(model, form, device=device, fill=fill)
    if format == WITHOUT_OUTLIERS:
        for module in model.modules():
            if type(module).__name__ == "Linear8bitLt":
                module.state.threshold = 0.0
    described = parameters.describe(wanted)
    dtype = getattr(torch, retained)
    return Built(model, model.config, described, format, dtype, device, done.stored.total)
