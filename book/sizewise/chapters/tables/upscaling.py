"""What a model of a rumoured size could look like: published shapes made larger.

No one has published a model of five or ten trillion parameters. These are published shapes with
one thing grown until the count reaches the total: they show what the total leaves open.
"""

from collections.abc import Callable
from functools import cache
from math import log

from sizewise.data import catalog
from sizewise.models import config as configs
from sizewise.models import from_config, parameters


def deeper_and_wider(total: float, like: str = "llama-3.1-405b") -> configs.Spec:
    """A dense model of ``total`` parameters with the proportions of ``like``.

    Width grows in step with depth; heads stay 128 wide and the MLP keeps its ratio to the width.
    """
    base = catalog.model(like).config
    aspect = base["hidden_size"] / base["num_hidden_layers"]
    ratio = base["intermediate_size"] / base["hidden_size"]
    step = 128 * base["num_key_value_heads"]  # each of which serves as many query heads

    def shape(layers: int) -> dict:
        width = round(aspect * layers / step) * step
        return base | {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "num_attention_heads": width // 128,
            "intermediate_size": round(ratio * width / 256) * 256,
        }

    return _reach(total, f"{like}, deeper and wider", shape, base["num_hidden_layers"])


def more_experts(total: float, like: str = "deepseek-v3") -> configs.Spec:
    """A sparse model of ``total`` parameters: ``like`` with more experts, as many a token."""
    base = _stated(like)
    experts = next(name for name in from_config.EXPERTS if name in base)
    groups = base.get("n_group") or 1

    def shape(number: int) -> dict:
        return base | {experts: number * groups}

    return _reach(total, f"{like}, more experts", shape, base[experts] // groups)


def wider_experts(total: float, like: str = "deepseek-v3") -> configs.Spec:
    """A sparse model of ``total`` parameters: ``like`` with wider layers, as many experts."""
    base = _stated(like)
    names = ("hidden_size", "intermediate_size", "moe_intermediate_size")

    def shape(eighths: int) -> dict:
        return base | {n: base[n] * eighths // 8 for n in names if base.get(n)}

    return _reach(total, f"{like}, wider", shape, 8)


def _stated(name: str) -> dict:
    """The configuration with its class's defaults written out."""
    config = configs.build(name)
    return config.to_dict() | {"model_type": config.model_type}


def _reach(total: float, name: str, shape: Callable[[int], dict], start: int) -> configs.Spec:
    """The spec whose count is nearest to ``total``: a whole number between two, like a power law.

    Raises ValueError if ``total`` is under the shape it starts from.
    """

    @cache
    def size(step: int) -> int:
        return parameters.count(configs.Spec(name, shape(step))).total

    if size(start) > total:
        raise ValueError(f"{name}: already over {total:,.0f} parameters")
    low, high = start, 2 * start
    while size(high) < total:
        low, high = high, 2 * high
    while high - low > 1:
        share = log(total / size(low)) / log(size(high) / size(low))
        middle = min(max(round(low * (high / low) ** share), low + 1), high - 1)
        low, high = (middle, high) if size(middle) < total else (low, middle)
    nearest = min((low, high), key=lambda step: abs(size(step) - total))
    return configs.Spec(name, shape(nearest), "scaled")
