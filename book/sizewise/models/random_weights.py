"""A model without weights, and weights at random: speed and bytes need no trained ones."""

from collections.abc import Callable

SPREAD = 0.5  # standard deviation of a matrix's values, times the root of its columns
GAIN = 0.5  # of norms
PLANTED_GAIN = 12.0  # of the channels that hold outliers: twice the threshold of LLM.int8()
ONE_IN = 1024  # channels, of which one is planted


def empty(config, dtype: str = "bfloat16"):
    """The `transformers` causal model of ``config``, its parameters on the meta device.

    Buffers, such as rotary frequencies, are real, so that only parameters are left to fill.
    ``config`` is a configuration object of `transformers`.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.tie_weights()  # each was made a parameter of its own
    return model.eval()


def planted(width: int) -> range:
    """The channels of a model of this width that hold outliers: one in `ONE_IN`, at least one."""
    number = max(1, width // ONE_IN)
    return range(0, number * (width // number), width // number)


def at_random(seed: int = 0) -> Callable:
    """A ``fill`` for `weights.convert`: normal matrices, gains of norms, biases of zeros.

    Inputs of linear layers stay far below the 6 at which LLM.int8() takes a column out of its
    product, as they would not with wider matrices, whose gated MLPs pass it at random. Planted
    channels pass it at every token instead: they are 1 in each embedding, next to normal values
    of deviation 1, and have a large gain in the norms before attention and MLP, as a trained
    model's few outlier features stay in the same dimensions of all layers (Dettmers et al. 2022,
    section 4). On a GPU the numbers are drawn there. A function of the seed, the device kind and
    the order.
    """
    import torch

    generators: dict = {}

    def fill(name: str, tensor) -> None:
        channels = list(planted(tensor.shape[-1])) if tensor.ndim else []
        if tensor.ndim < 2:
            tensor.fill_(0 if name.endswith("bias") else GAIN)
            if name.endswith("layernorm.weight"):
                tensor[channels] = PLANTED_GAIN
            return
        device = tensor.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        embedding = name.endswith("embed_tokens.weight")
        std = 1.0 if embedding else SPREAD * tensor.shape[-1] ** -0.5
        tensor.normal_(0, std, generator=generators[device])
        if embedding:
            tensor[..., channels] = 1

    return fill
