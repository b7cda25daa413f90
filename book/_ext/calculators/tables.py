"""The rows that a calculator looks up: models, devices, formats, laws. Plain numbers.

A value may be a function of traced values instead (`Cell`): then it is computed of the reader's
own numbers.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from sizewise import scaling_laws
from sizewise.costs import forecast, formats, memory, roofline
from sizewise.data import catalog
from sizewise.models import parameters
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
def models() -> dict[str, dict]:
    """Every decoder of the catalogue, and the reader's own sizes."""
    described = [parameters.describe(name) for name in catalog.models()]
    # An encoder-decoder keeps two caches, which the form does not ask about.
    return {model.name: _model(model) for model in described if model.kind == "decoder"} | {
        OWN: _own_model()
    }


def sparse_models() -> dict[str, dict]:
    """Models with routed experts, and the reader's own sizes."""
    sparse = {name: row for name, row in models().items() if name != OWN and row["experts"] > 1}
    sizes = {"lookup": 0, "vision": 0, "hidden": 0, "vocab": 1, "routed": Cell(routed)}
    return sparse | {OWN: sizes}


# Of GGUF's mixtures the page has one a step of size: bytes of each are counted for every model.
LEFT_OUT = {
    "q5_k_s",
    "q5_1",
    "q5_0",
    "q4_k_s",
    "q4_1",
    "iq4_nl",
    "q3_k_l",
    "q3_k_s",
    "fp4",
    "fp4-dq",
}
BYTES = ("weights_bytes", "always_bytes", "table_bytes", "routed_bytes", "vision_bytes")


@cache
def stored() -> dict[str, dict[str, list[float]]]:
    """`BYTES` of every model in every format, tensor by tensor as the library counts them."""
    return {
        name: {
            format: [
                int(size) if size == int(size) else size
                for size in (
                    memory.weights_bytes(model, format),
                    *roofline.read_parts(model, format),
                )
            ]
            for format in weight_formats()
            if format != OWN
        }
        for name in models()
        if name != OWN and (model := parameters.describe(name)).inventory
    }


def _model(model: Model) -> dict:
    """Sizes of a model, and its layers: equal ones as one row with their count."""
    return {
        "parameters": model.total,
        "active": model.active,
        "lookup": model.lookup,
        "vision": model.vision,
        "routed": model.routed,
        "vocab": model.vocab_size,
        "hidden": model.hidden_size,
        "mlp_width": model.mlp_width,
        "longest": model.max_context,
        "experts": model.experts or 1,
        "used": min(model.experts_per_token or 1, model.experts or 1),
        "layers": [
            _layer(layer, count, model.hidden_size)
            for layer, count in Counter(model.layers).items()
        ],
    }


def _layer(layer: Layer, count, hidden) -> dict:
    attentions, state, attention = layer.attentions, layer.state, layer.attention
    if state and state.in_model_format:
        raise ValueError(f"{state.kind}: a state in the model's own format is not written here")
    return {
        "count": count,
        "held": [_span(span) for part in attentions for span in part.stored()],
        "read": [_span(span) for part in attentions for span in part.read()],
        "scores": [_scores(score) for part in attentions for score in part.scores()],
        "prompt": [_scores(score) for part in attentions for score in part.scores(False)],
        "attention": [_attention(attention)] if attention else [],
        "projections": [matrix._asdict() for matrix in forecast.projections(attention, hidden)],
        "states": [{"conv": state.conv_values, "recurrent": state.recurrent_values}]
        if state
        else [],
    }


def _attention(part) -> dict:
    return {"heads": forecast.shared_heads(part) or 0, "width": forecast.prompt_width(part)}


def _scores(entry) -> dict:
    return {"operations": entry.operations, "limit": _limit(entry.limit), "stride": entry.stride}


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
    full = _layer(grouped(symbols), symbols.full_layers, symbols.hidden)
    windowed = _layer(grouped(symbols, symbols.window), symbols.windowed_layers, symbols.hidden)
    row = {
        "layers": [full, windowed],
        "lookup": (symbols.embeddings - 1) * symbols.vocab * symbols.hidden,
        "vision": 0,
    }
    return _cells(row) | {"routed": Cell(routed)}


def routed(s: Symbols):
    """Parameters of the routed experts, from the counts alone."""
    sizes = (s.parameters, s.active, (), 1, 1)
    return Model("", *sizes, experts=s.experts, experts_per_token=s.used).routed


def _cells(value):
    """Traced values, wherever they stand in a row, as cells."""
    if isinstance(value, dict):
        return {name: _cells(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_cells(part) for part in value]
    return Cell(lambda _, value=value: value) if hasattr(value, "expression") else value


@cache
def devices() -> dict[str, dict]:
    """Accelerators as their vendors state them. No stated peak: arithmetic takes no time."""
    rows = {}
    for name, device in catalog.devices().items():
        low, high = catalog.hourly_price(name) or (None, None)
        rows[name] = {
            "memory": device.memory_bytes,
            "bandwidth": device.bandwidth,
            "usable": memory.share_of(device),
            "peak": device.flops["bf16"] or math.inf,
            "watts": device.tdp_watts,
            "price_low": low,
            "price_high": high,
            "sms": device.sms,
            "link": device.link_bandwidth,
        }
        peaks = {f"peak_{format}": device.flops.get(format) for format in ("fp8", "fp4", "int8")}
        rows[name] |= peaks
    return rows | {OWN: {"price_low": None, "price_high": None, "usable": memory.USABLE}}


def training_devices() -> dict[str, dict]:
    """The same; without a stated peak the time of training is not known."""
    rows = {}
    for name, row in devices().items():
        unknown = {"peak": None} if row.get("peak") == math.inf else {}
        rows[name] = row | unknown
    return rows


def weight_formats() -> dict[str, dict]:
    """Bits of a weight, of what a quantizer leaves alone, and how the format is multiplied."""
    rows = {
        format.name: {
            "weight_bits": format.bits,
            "kept_bits": 16 if "output head" in format.keeps else format.bits,
            "keeps": int("output head" in format.keeps),
            "kind": forecast.kind_of(format.name),
            "only_experts": format.name in forecast.ONLY_EXPERTS,
        }
        for format in formats.WEIGHTS.values()
        if format.name not in LEFT_OUT
    }
    return rows | {
        OWN: {"keeps": 0, "only_experts": False, "kept_bits": Cell(lambda s: s.weight_bits)}
    }


def cache_formats() -> dict[str, dict]:
    caches = formats.CACHES.items()
    return {name: {"kv_bits": kv.bits, "kv_row": kv.per_row} for name, kv in caches} | {OWN: {}}


@cache
def laws() -> dict[str, dict]:
    """Laws of loss over parameters and tokens: published ones, and our refits of their runs."""
    rows = {}
    for name, entry in scaling_laws.entries().items():
        if entry["form"] in SURFACES:
            law = _law(scaling_laws.published(name))
            rows[name] = law | {"text": entry["data"], "counts": entry["counts"]}
    for points, (law, joint) in intervals.refits().items():
        rows[f"refit of {points} runs"] = _law(law) | {
            "text": "MassiveText",
            "counts": "with embeddings",
            **intervals.columns(joint),
        }
    return rows


def _law(law) -> dict:
    """The coefficients of a law, with its form. No joint uncertainty is known, unless added."""
    row = {"form": type(law).__name__, **intervals.columns(None)}
    if isinstance(law, scaling_laws.DataConstrained):
        inner = law.law
        row |= {"tokens_worth": law.tokens_worth, "params_worth": law.params_worth}
    else:
        inner = law
    return row | {name: float(value) for name, value in vars(inner).items()}
