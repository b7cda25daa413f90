"""What a batch touches of a model with experts, and what it reads, against dense models."""

from sizewise.costs import memory, roofline
from sizewise.models.architecture import Model

from . import tables
from .fit import COUNTS, FORMATS, STORED, WEIGHTS, WEIGHTS_STORED, read_of, weight_format
from .parts import COUNT, Calculator, Field, Result, Step

MODEL = "model"


def sparse(s) -> Model:
    return Model(
        "the model",
        s.parameters,
        s.active,
        (),
        1,
        s.vocab,
        lookup=s.lookup,
        experts=s.experts,
        experts_per_token=s.used,
        vision=s.vision,
    )


def dense_read(s, size) -> object:
    """Bytes that a step reads of a dense model of ``size`` parameters, all of them multiplied."""
    return memory.weights_bytes(size, weight_format(s))


CALCULATOR = Calculator(
    id="experts",
    title="What does a batch read of a model with experts?",
    fields=(
        Field(MODEL, "Model", "choice", "deepseek-v3", table="sparse_models", own="my own sizes"),
        Field("parameters", "Parameters", "whole", "671B", "N", COUNT, when=MODEL, most=1e18),
        Field(
            "active",
            "Active parameters",
            "whole",
            "37B",
            "N_a",
            COUNT,
            when=MODEL,
            most="parameters",
        ),
        Field("experts", "Experts a layer", "whole", "256", "E", COUNT, when=MODEL, most=1e6),
        Field("used", "Experts a token", "whole", "8", "k", COUNT, when=MODEL, most="experts"),
        Field("batch", "Concurrent requests", "whole", "32", "b", COUNT, most=1e9),
        *(field for field in FORMATS if field.name in (WEIGHTS, "weight_bits")),
    ),
    steps=(
        Step(
            "reached",
            "e",
            "distinct experts of a layer that a step reaches",
            lambda s: roofline.expected_experts(s.experts, s.used, s.batch),
        ),
        Step("share", "s", "share of them", lambda s: s.reached / s.experts),
        Step(
            "touched",
            "N_t",
            "parameters read in a step",
            lambda s: roofline.touched_parameters(sparse(s), s.batch),
        ),
        *WEIGHTS_STORED,
        Step("read", "R", "bytes read in a step", read_of),
        Step("token_read", "R_1", "bytes read for a token", lambda s: s.read / s.batch),
        Step(
            "active_read",
            "R_a",
            "bytes for a token of a dense model of the active size",
            lambda s: dense_read(s, s.active - s.lookup) / s.batch,
        ),
        Step(
            "total_read",
            "R_N",
            "bytes for a token of a dense model of the whole size",
            lambda s: dense_read(s, s.parameters - s.lookup) / s.batch,
        ),
        Step(
            "over_active",
            "x_a",
            "how many times as much as the dense model of active size",
            lambda s: s.token_read / s.active_read,
        ),
        Step(
            "over_total",
            "x_N",
            "how many times as much as the dense model of whole size",
            lambda s: s.token_read / s.total_read,
        ),
    ),
    results=(
        Result("Distinct experts reached in a layer, of all", ("reached", "experts"), "of"),
        Result("Share of a layer's experts reached", ("share",), "%", main=True),
        Result("Parameters read in a step", ("touched",), "params"),
        Result("Bytes read in a step", ("read",), "B"),
        Result("Bytes read for a token", ("token_read",), "B", main=True),
        Result("Dense model of the active size, for a token", ("active_read",), "B"),
        Result(
            "Sparse model against the dense one of active size",
            ("over_active",),
            "times",
            main=True,
        ),
        Result("Dense model of the whole size, for a token", ("total_read",), "B"),
        Result("Sparse model against the dense one of whole size", ("over_total",), "times"),
    ),
    tables={"sparse_models": tables.sparse_models, "weight_formats": tables.weight_formats},
    columns={
        **COUNTS,
        "vocab": ("V", "tokens of the vocabulary"),
        "hidden": ("m", "values of the residual"),
    },
    crossed=STORED,
    command="sizewise roofline deepseek-v3 --batch 32",
)
