"""A model without weights, and weights at random: speed and bytes need no trained ones."""

from collections.abc import Callable


def empty(config, dtype: str = "bfloat16"):
    """The `transformers` causal model of ``config``, its parameters on the meta device.

    Buffers, such as rotary frequencies, are real, so that only parameters are left to fill.
    ``config`` is a configuration object of `transformers`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    register = torch.nn.Module.register_parameter

    def on_meta(module, name, parameter):
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            hidden = torch.nn.Parameter(parameter.to("meta"), parameter.requires_grad)
            module._parameters[name] = hidden

    torch.nn.Module.register_parameter = on_meta
    try:
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    finally:
        torch.nn.Module.register_parameter = register
    return model.eval()


def at_random(seed: int = 0, std: float = 0.02) -> Callable:
    """A ``fill`` for `weights.convert`: normal matrices, vectors of ones, biases of zeros.

    On a GPU the numbers are drawn there. A function of the seed, the device kind and the order.
    """
    import torch

    generators: dict = {}

    def fill(name: str, tensor) -> None:
        if tensor.ndim < 2:
            tensor.fill_(0 if name.endswith("bias") else 1)
            return
        device = tensor.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        tensor.normal_(0, std, generator=generators[device])

    return fill
