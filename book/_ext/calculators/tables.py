"""The rows that a calculator looks up: models, devices, formats, laws. Plain numbers.

A value may be a function of traced values instead (`Cell`): then it is computed of the reader's
own numbers.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from sizewise import scaling_laws
from sizewise.costs import formats
from sizewise.data import catalog
from sizewise.models import config, from_config, parameters
from sizewise.models.architecture import Grouped, Layer, Model

from . import intervals
from .parts import OWN
from .tracing import Formula, Symbols, trace

# Forms of laws in data/facts/laws.yml that give a loss for parameters and tokens of dense models.
SURFACES = ("hoffmann", "hoffmann-logs", "gadre", "kaplan-surface", "data-constrained")


@dataclass(frozen=True)
class Cell:
    """A value of a row that depends on the reader's numbers."""

    call: Any

    @cached_property
    def formula(self) -> Formula:
        return trace(self.call)


@cache
def described(name: str) -> Model:
    """A model of the catalogue. Raises ValueError for one whose cache is not described."""
    spec, stated = config.load(name), catalog.model(name).counted
    if "active" not in stated:
        return parameters.describe(spec)
    found = from_config.from_config(
        config.build(spec), total=stated["total"], active=stated["active"], name=name
    )
    return replace(found, max_context=None)  # the catalogue's entries do not hold it


@cache
def models() -> dict[str, dict]:
    """Every decoder of the catalogue, and the reader's own sizes."""
    found = {}
    for name in catalog.models():
        try:
            found[name] = _model(described(name))
        except ValueError:  # an encoder-decoder keeps two caches
            continue
    return found | {OWN: _own_model()}


def sparse_models() -> dict[str, dict]:
    """Models with routed experts, and the reader's own sizes."""
    sparse = {name: row for name, row in models().items() if name != OWN and row["experts"] > 1}
    return sparse | {OWN: {"lookup": 0, "vocab": 1}}


def _model(model: Model) -> dict:
    """Sizes of a model, and its layers: equal ones as one row with their count."""
    return {
        "parameters": model.total,
        "active": model.active,
        "lookup": model.lookup,
        "vocab": model.vocab_size,
        "hidden": model.hidden_size,
        "mlp_width": model.mlp_width,
        "experts": model.experts or 1,
        "used": min(model.experts_per_token or 1, model.experts or 1),
        "layers": [_layer(layer, count) for layer, count in Counter(model.layers).items()],
    }


def _layer(layer: Layer, count) -> dict:
    attentions, state = layer.attentions, layer.state
    if state and state.in_model_format:
        raise ValueError(f"{state.kind}: a state in the model's own format is not written here")
    return {
        "count": count,
        "held": [_span(span) for part in attentions for span in part.stored()],
        "read": [_span(span) for part in attentions for span in part.read()],
        "scores": [
            {"operations": one.operations, "limit": _limit(one.limit), "stride": one.stride}
            for part in attentions
            for one in part.scores()
        ],
        "states": [{"conv": state.conv_values, "recurrent": state.recurrent_values}]
        if state
        else [],
    }


def _span(span) -> dict:
    vectors, width, limit, stride = span
    return {"vectors": vectors, "width": width, "limit": _limit(limit), "stride": stride}


def _limit(limit):
    return math.inf if limit is None else limit


def grouped(s: Symbols, window=None) -> Layer:
    """A layer of the reader's own sizes."""
    return Layer(Grouped(s.query_heads, s.kv_heads, s.head_dim, s.head_dim, window))


def _own_model() -> dict:
    """The reader's own sizes: layers with full attention, and layers with a window.

    The names of most values are those of the fields, which bring them.
    """
    symbols = Symbols()
    full = _layer(grouped(symbols), symbols.full_layers)
    windowed = _layer(grouped(symbols, symbols.window), symbols.windowed_layers)
    row = {"layers": [full, windowed], "lookup": symbols.vocab * symbols.hidden}
    return _cells(row)


def _cells(value):
    """Traced values, wherever they stand in a row, as cells."""
    if isinstance(value, dict):
        return {name: _cells(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_cells(one) for one in value]
    return Cell(lambda _, value=value: value) if hasattr(value, "expression") else value


@cache
def devices() -> dict[str, dict]:
    """Accelerators as their vendors state them. No stated peak: arithmetic takes no time."""
    found = {}
    for name, device in catalog.devices().items():
        low, high = catalog.hourly_price(name) or (None, None)
        found[name] = {
            "memory": device.memory_bytes,
            "bandwidth": device.bandwidth,
            "peak": device.flops["bf16"] or math.inf,
            "watts": device.tdp_watts,
            "price_low": low,
            "price_high": high,
        }
    return found | {OWN: {"price_low": None, "price_high": None}}


def training_devices() -> dict[str, dict]:
    """The same; without a stated peak the time of training is not known."""
    found = {}
    for name, row in devices().items():
        unknown = {"peak": None} if row.get("peak") == math.inf else {}
        found[name] = row | unknown
    return found


def weight_formats() -> dict[str, dict]:
    own = {OWN: {}}
    return {one.name: {"weight_bits": one.bits} for one in formats.WEIGHTS.values()} | own


def cache_formats() -> dict[str, dict]:
    return {
        one.name: {"kv_bits": one.bits, "kv_row": one.per_row} for one in formats.CACHES.values()
    } | {OWN: {}}


@cache
def laws() -> dict[str, dict]:
    """Laws of loss over parameters and tokens: published ones, and our refits of their runs."""
    found = {}
    for name, entry in scaling_laws.entries().items():
        if entry["form"] in SURFACES:
            law = _law(scaling_laws.published(name))
            found[name] = law | {"text": entry["data"], "counts": entry["counts"]}
    for points, (law, joint) in intervals.refits().items():
        found[f"refit of {points} runs"] = _law(law) | {
            "text": "MassiveText",
            "counts": "with embeddings",
            **intervals.columns(joint),
        }
    return found


def _law(law) -> dict:
    """The coefficients of a law, with its form. No joint uncertainty is known, unless added."""
    row = {"form": type(law).__name__, **intervals.columns(None)}
    if isinstance(law, scaling_laws.DataConstrained):
        inner = law.law
        row |= {"tokens_worth": law.tokens_worth, "params_worth": law.params_worth}
    else:
        inner = law
    return row | {name: float(value) for name, value in vars(inner).items()}
