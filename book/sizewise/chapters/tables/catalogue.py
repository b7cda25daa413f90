"""Every model of the catalogue as one row: what it is made of and what it takes."""

import pandas as pd

from sizewise.costs import memory
from sizewise.data import catalog
from sizewise.models import parameters

FORMATS = {"16 bits": "bf16", "8 bits": "int8", "4 bits": "nf4"}
MACHINES = (  # from small to large; what is larger than the last needs several of it
    ("RTX 4090", "RTX-4090", 1),
    ("H100", "H100", 1),
    ("H200", "H200", 1),
    ("8 x H200", "H200", 8),
)


def models(context: int) -> pd.DataFrame:
    """One row a model: name, maker, year, total and active parameters, bytes.

    Parameters are counted. ``KV cache a token`` is in bytes at 16 bits once every window is full,
    ``KV cache`` that of one sequence of ``context`` tokens, states of state-space layers included;
    and the three formats are bytes of the weights as a quantizer stores them. ``4 bits fit on`` is
    the smallest machine whose memory, less a tenth, holds the weights at 4 bits.
    """
    rows = []
    for name, entry in catalog.models().items():
        model = parameters.describe(name)
        weights = {label: memory.weights_bytes(model, format) for label, format in FORMATS.items()}
        rows.append(
            {
                "model": catalog.title(name),
                "maker": entry.developer,
                "year": entry.year,
                "total": model.total,
                "active": model.active if model.experts else None,
                "KV cache a token": memory.kv_bytes_per_token(model) if model.layers else None,
                "KV cache": memory.kv_cache_bytes(model, context) if model.layers else None,
                **weights,
                "4 bits fit on": smallest(weights["4 bits"]),
            }
        )
    return pd.DataFrame(rows)


def smallest(size: int) -> str:
    """The smallest machine of `MACHINES` that holds ``size`` bytes in nine tenths of its memory."""
    for label, device, count in MACHINES:
        if size <= 0.9 * count * catalog.device(device).memory_bytes:
            return label
    return "more"
