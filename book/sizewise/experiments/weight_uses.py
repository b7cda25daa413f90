"""What formats do to weights, activations, answers and vectors: rows beside those of `trials`."""

from functools import lru_cache

from sizewise.quantization import quality
from sizewise.quantization.weights import convert
from sizewise.stats import bootstrap
from sizewise.units import unknown

from .weight_quality import LAB, READS, Row, converted, named, subject

PROBED, TRAINED, TESTED = "rotten-tomatoes", 500, 500
NEIGHBOURS = 10
SIBLING = "int8-onnx"  # minilm-l6 as it was published in int8
CODEBOOKS = ("nf4", "fp4", "int4", "least-error")


def rounded(row: Row) -> Row:
    """A row of `rounding`: squared error over squared weights, over all matrices of a model.

    The interval draws matrices. ``theory`` is the error of independent normal weights.
    """
    import pandas

    from sizewise.quantization.weights import blockwise, codebooks

    table = codebook(row["codebook"], row["block"])
    model = _any_model(row)
    found = []
    for number, path in enumerate(
        sorted(set(convert.linear_layers(model)) - set(convert.head(model)))
    ):
        weight = model.get_submodule(path).weight.detach().float()
        stored = blockwise.quantize(weight, table, row["block"])
        off = (blockwise.dequantize(stored) - weight).double().square().sum()
        power = weight.double().square().sum()
        found.append((number, float(off), float(power), 8 * stored.nbytes, weight.numel()))
    matrices = pandas.DataFrame(found, columns=["document", "off", "power", "bits", "elements"])
    error = bootstrap.ratio(matrices, "off", "power", seed=row["seed"])
    return {
        "matrices": len(matrices),
        "elements": int(matrices["elements"].sum()),
        "bits": float(matrices["bits"].sum() / matrices["elements"].sum()),
        **quality.interval("relative_error", error),
        "theory": codebooks.expected_error(table, row["block"]),
    }


def codebook(name: str, block: int):
    """Sixteen levels by the name of their table; that of least error depends on the block."""
    import numpy

    from sizewise.quantization.weights import codebooks, least_error

    made = {
        "nf4": codebooks.nf4,
        "fp4": codebooks.fp4,
        "int4": codebooks.uniform,
        "least-error": lambda: numpy.array(least_error.least_error(4, block)),
    }
    if name not in made:
        raise unknown("codebook", name, CODEBOOKS)
    return made[name]()


def outlying(row: Row) -> Row:
    """A row of `outliers`: what LLM.int8() would leave in 16 bits in one layer of a model."""
    found = _outliers(*(row.get(name) for name in READS), row["threshold"])
    layer = found.layers[found.layers["layer"] == row["layer"]]
    return {
        "modules": len(layer),
        "features": int(layer["columns"].sum()),
        "outlier_features": int(layer["outlier_columns"].sum()),
        "share_of_features": float(layer["share_columns"].mean()),
        "share_of_positions": float(layer["share_positions"].max()),
        "largest": float(layer["largest"].max()),
        "hidden_outliers": int(found.features["outlier"].sum()),
        "tokens_scored": found.positions,
    }


@lru_cache(maxsize=1)
def _outliers(name, trained, context: int, documents: int, text: str, threshold: float):
    """All layers of a model at once."""
    from sizewise.evaluation import corpora
    from sizewise.models import pretrained
    from sizewise.quantization.weights import outliers

    if name.startswith(LAB) or pretrained.entry(name).kind == "causal":
        chosen = named(name, trained)
        model, sample = chosen.model, chosen.sample(context, documents, text)
    else:
        encoder = pretrained.encoder(name)
        model = encoder.model
        sample = quality.of_texts(encoder.tokenizer, corpora.fixed(text), context, documents)
    return outliers.measure(model, sample.windows, threshold=threshold)


def depth(name: str) -> int:
    """Layers of a model, by its facts; nothing is loaded. Raises ValueError for an unknown one."""
    from sizewise.models import pretrained
    from sizewise.training import models

    if name.startswith(LAB):
        return models.shape(int(name.removeprefix(LAB)))["layers"]
    return pretrained.entry(name).layers


def answers(row: Row) -> Row:
    """A row of `task`: the share of ARC-Easy questions that are right, and the change from fp32.

    A choice is scored by its likelihood for each byte. Intervals draw questions.
    """
    chosen = subject(row)
    before = _answers(row["model"], row["items"])
    table = before
    if row["format"] != "fp32":
        model = converted(chosen.model, row)[0]
        table = _scored(model, chosen.tokenizer, row["items"])
    by = {"by": "item", "seed": row["seed"]}
    right = bootstrap.ratio(table, "per_byte", **by)
    change = bootstrap.paired(table, before, "per_byte", **by).difference
    same = (table["per_byte"].to_numpy() == before["per_byte"].to_numpy()).mean()
    return {
        **quality.interval("accuracy", right),
        **quality.interval("accuracy_change", change),
        "same_outcome": float(same),
    }


@lru_cache(maxsize=1)
def _answers(name: str, items: int):
    chosen = named(name)
    return _scored(chosen.model, chosen.tokenizer, items)


def _scored(model, tokenizer, items: int):
    """The first ``items`` questions, in an order that has nothing to do with them."""
    from hashlib import sha256

    from sizewise.evaluation import multiple_choice

    questions = sorted(
        multiple_choice.arc("easy"), key=lambda one: sha256(one.name.encode()).digest()
    )
    return multiple_choice.picked(multiple_choice.score(model, tokenizer, questions[:items]))


def embedded(row: Row) -> Row:
    """A row of `encoder`: angles to the fp32 vectors, neighbours kept, a probe's right answers.

    The probe is trained on vectors of the same format. Intervals draw the tested texts.
    """
    from sizewise.models import pretrained

    labels, before = _vectors(row["model"])
    if row["format"] == SIBLING:
        encoder = pretrained.encoder(f"{row['model']}-int8")
        sizes = {"held_bytes": encoder.entry.files[0].bytes}
    else:
        encoder = pretrained.encoder(row["model"])
        made = convert.convert(encoder.model, row["format"])
        sizes = {
            f"{name}_bytes".replace("total", "held"): size
            for name, size in made.stored.as_dict().items()
        }
    now = before if row["format"] == "fp32" else encoder.embed(list(labels[0]))
    return _apart(now, before, labels[1], row["seed"]) | {
        "parameters": pretrained.entry(row["model"]).parameters,
        **sizes,
    }


@lru_cache(maxsize=1)
def _vectors(name: str):
    """The texts and labels, trained on first, and their vectors in fp32."""
    from sizewise.evaluation import corpora
    from sizewise.models import pretrained

    first, last = corpora.labelled(PROBED).split(TRAINED, TESTED)
    some = (*first.texts, *last.texts)
    return (some, [*first.labels, *last.labels]), pretrained.encoder(name).embed(list(some))


def _apart(now, before, labels, seed: int) -> Row:
    import pandas

    from sizewise.evaluation import embedding

    def probe(vectors):
        return embedding.probe(
            vectors[:TRAINED], labels[:TRAINED], vectors[TRAINED:], labels[TRAINED:]
        )

    apart = pandas.DataFrame(
        {
            "item": range(len(now)),
            "error": (1 - embedding.cosine(now, before)).clip(0),  # rounding gives -1e-8
            "kept": embedding.recall(now, before, NEIGHBOURS),
        }
    )
    right, original = probe(now), probe(before)
    by = {"by": "item", "seed": seed}
    change = bootstrap.paired(right, original, "right", **by).difference
    return {
        "texts": len(now),
        **quality.interval("cosine_error", bootstrap.ratio(apart, "error", **by)),
        **quality.interval("recall", bootstrap.ratio(apart, "kept", **by)),
        **quality.interval("probe_accuracy", bootstrap.ratio(right, "right", **by)),
        **quality.interval("probe_change", change),
    }


def has_onnx() -> bool:
    """Whether the published int8 sibling of an encoder can be run here."""
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None


def _any_model(row: Row):
    from sizewise.models import pretrained

    if row["model"].startswith(LAB) or pretrained.entry(row["model"]).kind == "causal":
        return subject(row).model
    return pretrained.encoder(row["model"]).model
