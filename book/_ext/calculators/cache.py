"""What a cache of keys and values takes: heads, windows and formats. `memory.kv_cache_bytes`."""

from sizewise.costs import memory
from sizewise.models.architecture import Layer, Model

from . import tables
from .fit import CACHE, FORMATS, cache_format
from .parts import COUNT, Calculator, Curve, Field, Result, Step
from .tables import grouped

CONTEXT = "context"


def lone(layer: Layer) -> Model:
    """A model of this layer alone."""
    return Model("the layer", None, None, (layer,), 1, 1)


def cache_bytes(s, layer: Layer, format) -> object:
    return memory.kv_cache_bytes(lone(layer), s.context, s.batch, format)


CALCULATOR = Calculator(
    id="cache",
    title="What does the cache take?",
    fields=(
        Field(
            "full_layers",
            "Layers with full attention",
            "whole",
            "8",
            r"\ell_f",
            COUNT,
            least=0,
            most=1e6,
        ),
        Field(
            "windowed_layers",
            "Layers with a window",
            "whole",
            "40",
            r"\ell_w",
            COUNT,
            least=0,
            most=1e6,
        ),
        Field("window", "Window", "whole", "1024", "w", "tokens"),
        Field("kv_heads", "Key-value heads", "whole", "8", "g", COUNT, most=1e6),
        Field("head_dim", "Head size", "whole", "256", "d", "values", most=1e6),
        *(field for field in FORMATS if field.name in (CACHE, "kv_bits", "kv_row")),
        Field(
            CONTEXT,
            "Context",
            "whole",
            "128k",
            "n",
            "tokens",
            help="Tokens in each sequence; k is 1,000, Ki is 1,024.",
        ),
        Field("batch", "Concurrent requests", "whole", "1", "b", COUNT),
    ),
    steps=(
        Step(
            "full_bytes",
            "Y_f",
            "bytes of a layer with full attention",
            lambda s: cache_bytes(s, grouped(s), cache_format(s)),
        ),
        Step(
            "windowed_bytes",
            "Y_w",
            "bytes of a layer with a window",
            lambda s: cache_bytes(s, grouped(s, s.window), cache_format(s)),
        ),
        Step(
            "kv_bytes",
            "Y",
            "bytes of the cache",
            lambda s: s.full_layers * s.full_bytes + s.windowed_layers * s.windowed_bytes,
        ),
        Step(
            "per_token",
            "y",
            "bytes that one more token adds to a sequence, once windows are full",
            lambda s: s.full_layers * memory.kv_bytes_per_token(lone(grouped(s)), cache_format(s)),
        ),
        Step(
            "plain_bytes",
            "Y_0",
            "bytes with full attention everywhere in bf16",
            lambda s: (s.full_layers + s.windowed_layers) * cache_bytes(s, grouped(s), "bf16"),
        ),
        Step("share", "s", "share of that", lambda s: s.kv_bytes / s.plain_bytes),
    ),
    results=(
        Result("Cache", ("kv_bytes",), "B", main=True),
        Result("One more token, once windows are full", ("per_token",), "B"),
        Result("Full attention everywhere, in bf16", ("plain_bytes",), "B"),
        Result(
            "The cache as a share of full attention in bf16",
            ("share",),
            "%",
            main=True,
            missing="no layer keeps a cache",
        ),
        Result("The cache", ("kv_bytes",), "B", each=CONTEXT, missing="no layer keeps a cache"),
        Result("With full attention everywhere, in bf16", ("plain_bytes",), "B", each=CONTEXT),
    ),
    tables={"cache_formats": tables.cache_formats},
    columns={},
    command="sizewise memory gemma-3-27b --kv int4 --context 128000",
    curve=Curve(
        CONTEXT,
        points=(
            *("1k", "1.5k", "2k", "3k", "4k", "6k", "8k", "12k", "16k", "24k", "32k", "48k", "64k"),
            *("96k", "128k", "192k", "256k", "384k", "512k", "768k", "1M"),
        ),
        ticks=("1k", "4k", "16k", "64k", "256k", "1M"),
        title="Windows keep the cache small as the context grows",
        drawn=2,
    ),
)
