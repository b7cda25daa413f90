"""Count every model of the catalogue with its class and keep what the count gave.

The command line answers about a catalogue's model from ``data/facts/model_shapes.json`` without
importing transformers; `tests/test_counting.py` holds the file against a fresh count. Run it after
a change of ``data/facts/models.yml`` or of how models are counted:

    python scripts/model_shapes.py
"""

import json
from statistics import median

from sizewise import paths
from sizewise.data import catalog
from sizewise.experiments import options
from sizewise.models import config, estimate, from_config, parameters
from sizewise.models.architecture import Tensors, numbers, to_json

COUNT_FIELDS = ("model_type", "built_as", "experts", "experts_per_token", "tied", "buffers", "mtp")


def counted(name: str):
    """The count and description of a model, from its class or from its checkpoint's tensor list."""
    entry = catalog.model(name)
    notes = (catalog.TEXT_ONLY,) if entry.text_only else ()
    spec = config.Spec(name, dict(entry.config), "script", notes=notes, may_estimate=True)
    if not entry.tensors:
        return parameters.count(spec), parameters.describe(spec)
    tensors = tuple(
        Tensors(path, kind, tuple(shape), len(tuple(numbers(layers))) or 1, tuple(numbers(layers)))
        for path, kind, shape, layers in entry.tensors
    )
    plain = estimate.config(spec.fields)
    experts, used = from_config.routing(plain)
    result = parameters.tally(
        name=spec.name,
        model_type=str(spec.fields["model_type"]),
        built_as="the checkpoint's own list of tensors",
        tensors=tensors,
        experts=experts,
        experts_per_token=used,
        assumptions=spec.notes,
    )
    return result, parameters.described(spec, result, plain)


def estimate_errors(totals: dict[str, int]) -> dict:
    """How far `estimate` is off on the catalogue's models that state what it needs."""
    errors = []
    for name, total in totals.items():
        fields = catalog.model(name).config
        if catalog.model(name).family != "switch" and estimate.possible(fields):
            guess = sum(row.parameters for row in estimate.tensors(fields))
            errors.append(abs(guess / total - 1))
    errors.sort()
    return {
        "models": len(errors),
        "median": median(errors),
        "nine_in_ten": errors[int(0.9 * len(errors))],
        "worst": errors[-1],
    }


def main() -> None:
    import transformers

    options.parser(__doc__).parse_args()

    models, totals = {}, {}
    for name in catalog.models():
        count, model = counted(name)
        totals[name] = count.total - count.vision
        kept = {field: getattr(count, field) for field in COUNT_FIELDS}
        kept["assumptions"] = list(count.assumptions)
        models[name] = {"count": kept, "model": to_json(model)}
        print(f"{name}: {count.total:,}", flush=True)
    lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(m)}" for n, m in models.items())
    error = json.dumps(estimate_errors(totals))
    text = (
        f'{{"transformers": "{transformers.__version__}",\n"estimate": {error},\n'
        f'"models": {{\n{lines}\n}}}}\n'
    )
    (paths.root() / "data" / "facts" / "model_shapes.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
