"""Small model first, large one where it is unsure: worked out from recorded answers, no model runs.

    python scripts/cascade.py
    python scripts/cascade.py --list

Reads data/small_vs_large.jsonl, the likelihoods of all choices by all models, and takes under a
minute. Rows go to data/cascade.jsonl; what has a row is not computed again. Where the
answers have changed since, remove the file first.
"""

import argparse
import hashlib
import json
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from sizewise import units
from sizewise.data import records
from sizewise.evaluation import cascade, routing
from sizewise.evaluation.routing import ALL, MEASURES, Row, Study
from sizewise.stats import calibration as confidence
from sizewise.stats import paired

SEED = 0  # of the halves and of the draws
SAMPLES = 1000
KEEPS = (0.9, 1.0)  # of what the large model gains
KINDS = ("cascade", "chosen", "calibration", "specialists", "vote")


def configs(study: Study) -> list[Row]:
    """All rows that these answers allow."""
    pairs, smaller = study.pairs(), study.models[:-1]
    sets = [m for m in smaller if len(study.up_to(m)) > 1]
    return [
        *(
            {"what": "cascade", "small": s, "large": b, "task": t, "confidence": by}
            for (s, b), t, by in product(pairs, study.tasks, MEASURES)
        ),
        *(
            {
                "what": "chosen",
                "small": s,
                "large": b,
                "task": t,
                "confidence": MEASURES[0],
                "keep": k,
            }
            for (s, b), t, k in product(pairs, study.tasks, KEEPS)
        ),
        *(
            {"what": "calibration", "model": m, "task": t}
            for m, t in product(study.models, study.tasks)
        ),
        *(
            {"what": "specialists", "up_to": m, "generalist": g, "task": t}
            for m, g, t in product(sets, ("of the same", "the largest"), study.tasks)
        ),
        *(
            {"what": "vote", "up_to": m, "way": w, "task": t}
            for m, w, t in product(sets, cascade.WAYS, study.tasks)
        ),
    ]


def measure(study: Study, config: Row) -> Row:
    """The measurements of one row."""
    measures = {
        "cascade": measure_cascade,
        "chosen": measure_chosen,
        "calibration": calibration,
        "specialists": specialists,
        "vote": measure_vote,
    }
    return measures[config["what"]](study, config)


def measure_cascade(study: Study, config: Row) -> Row:
    """The whole curve, of all items: nothing is chosen here."""
    small, large, task = config["small"], config["large"], config["task"]
    entry = study.cascade(small, large, task, config["confidence"])
    curve, area = entry.curve(), entry.area(samples=SAMPLES, seed=SEED)
    a, b = study.answers[small][task], study.answers[large][task]
    full = entry.large_cost.mean()
    return {
        "items": len(entry),
        "small_params": study.params[small],
        "large_params": study.params[large],
        "small_right": float(entry.small.mean()),
        "large_right": float(entry.large.mean()),
        **compared("gain", entry.large, entry.small),
        "only_large": float((entry.gain > 0).mean()),
        "only_small": float((entry.gain < 0).mean()),
        "either": entry.either,
        **told("area", area),
        "oracle_area": entry.oracle_area,
        "small_cost_ratio": float(entry.small_cost.mean() / full),
        "small_seconds_ratio": float(a["seconds"].sum() / b["seconds"].sum()),
        "shares": curve["share"].tolist(),
        "right_at": curve["right"].tolist(),
        "cost_at": (curve["cost"] / full).tolist(),
        "random_at": curve["random"].tolist(),
        "oracle_at": curve["oracle"].tolist(),
    }


def measure_chosen(study: Study, config: Row) -> Row:
    """A threshold chosen on one half, judged on the other."""
    task, first = config["task"], study.first[config["task"]]
    entry = study.cascade(config["small"], config["large"], task, config["confidence"])
    threshold = entry.part(first).choose(config["keep"])
    judged = entry.part(~first)
    result = {
        "items": len(judged),
        "small_right": float(judged.small.mean()),
        "large_right": float(judged.large.mean()),
        "threshold": threshold if np.isfinite(threshold) else None,
    }
    for name, estimate in judged.judge(threshold, samples=SAMPLES, seed=SEED).items():
        result |= told(name, estimate)
    return result


def calibration(study: Study, config: Row) -> Row:
    """Calibration on the second half, as it is and at the temperature of the first half."""
    entry, first = study.answers[config["model"]][config["task"]], study.first[config["task"]]
    energy, answer = routing.energy(entry), entry["answer"].to_numpy()
    fitted = confidence.temperature(energy[first], answer[first])
    energy, answer, right = energy[~first], answer[~first], entry["right"].to_numpy()[~first]
    bins = min(confidence.BINS, len(right))
    params = study.params[config["model"]]
    result = {"items": len(right), "params": params, "temperature": fitted, "bins": bins}
    for name, value in (("", 1.0), ("_fitted", fitted)):
        p = confidence.probabilities(energy, value)
        confidences = p.max(1)
        table = confidence.reliability(confidences, right, bins)
        result |= {
            f"ece{name}": confidence.calibration_error(confidences, right, bins),
            f"ece_floor{name}": confidence.calibration_floor(confidences, bins, seed=SEED),
            f"brier{name}": confidence.brier(p, answer),
            f"surprise{name}": confidence.surprise(energy, answer, value),
            f"confidence_at{name}": table["confidence"].tolist(),
            f"right_in_bin{name}": table["right"].tolist(),
        }
    return result


@cache
def per_task(study: Study, up_to: str, generalist: str):
    """One row an item of the second halves: who answered, and whether rightly."""
    import pandas

    table = pandas.concat(
        study.answers[m][t][["right"]].rename_axis("item").reset_index().assign(model=m, task=t)
        for m, t in product(study.models, study.tasks[:-1])
    )
    named = None if generalist == "of the same" else study.models[-1]
    return cascade.specialists(table, study.up_to(up_to), named, split=SEED)


def specialists(study: Study, config: Row) -> Row:
    """For each task the best of several models, against one model for all tasks."""
    rows = per_task(study, config["up_to"], config["generalist"])
    if config["task"] != ALL:
        rows = rows[rows["task"] == config["task"]]
    return {
        "items": len(rows),
        "models": study.up_to(config["up_to"]),
        "specialists": list(dict.fromkeys(rows["specialist"])),
        "against": rows["generalist"].iloc[0],
        "specialist_right": float(rows["specialist_right"].mean()),
        "generalist_right": float(rows["generalist_right"].mean()),
        **compared("gain", rows["specialist_right"], rows["generalist_right"]),
    }


def measure_vote(study: Study, config: Row) -> Row:
    """Several models vote, against the largest of all, on the second half."""
    task, second = config["task"], ~study.first[config["task"]]
    members = [study.answers[m][task][second] for m in study.up_to(config["up_to"])]
    largest = study.answers[study.models[-1]][task][second]
    p = np.stack([confidence.probabilities(routing.energy(a)) for a in members])  # (models, n, k)
    right = (cascade.vote(p, config["way"]) == largest["answer"].to_numpy()).astype(float)
    return {
        "items": len(right),
        "models": study.up_to(config["up_to"]),
        "against": study.models[-1],
        "vote_right": float(right.mean()),
        "generalist_right": float(largest["right"].mean()),
        "cost_ratio": float(sum(entry["cost"].sum() for entry in members) / largest["cost"].sum()),
        **compared("gain", right, largest["right"]),
    }


def compared(name: str, a, b) -> Row:
    """Accuracy of a less that of b with its interval, and McNemar's mid-p."""
    result = paired.compare(a, b, samples=SAMPLES, seed=SEED)
    return {**told(name, result.drawn), f"{name}_p": result.mid}


def told(name: str, estimate) -> Row:
    """A value with the ends of its interval; what is not a number is left out."""
    return {key: float(v) for key, v in estimate.columns(name).items() if np.isfinite(v)}


def digest(rows: list[Row]) -> str:
    """Of the recorded answers with choices, whatever machine and day they come from."""
    lines = sorted(
        json.dumps({k: v for k, v in row.items() if k != "from"}, sort_keys=True)
        for row in routing.with_choices(rows)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def names(text: str) -> list[str]:
    """A list on the command line, a,b,c."""
    return text.split(",")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--input", help="another file of answers than data/small_vs_large.jsonl")
    add("--output", help="another file than data/cascade.jsonl")
    add("--what", type=names, default=list(KINDS), help=", ".join(KINDS))
    add("--list", action="store_true", help="print the rows and compute nothing")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Compute what has no row yet."""
    for kind in args.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    answers_file = Path(args.input) if args.input else records.path("small_vs_large")
    if not (rows := records.read(answers_file)):
        raise ValueError(f"{answers_file.name} has no rows: record scripts/small_vs_large.py first")
    file = Path(args.output) if args.output else records.path("cascade")
    made_of = digest(rows)
    study = Study(rows, SEED)
    before = {row.get("answers_digest") for row in records.read(file)}
    if None in before:
        raise ValueError(f"{file.name} holds rows of another script: name another file")
    if before - {made_of}:
        raise ValueError(
            f"{file.name} is of other answers than {answers_file.name}: remove it first"
        )
    todo = records.missing(file, [c for c in configs(study) if c["what"] in args.what])
    source = None if args.list else records.provenance(seed=SEED)
    for number, config in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {' '.join(map(str, config.values()))}", flush=True)
        if source:
            measured = measure(study, config) | {"answers_digest": made_of}
            records.append(file, config, measured, source)


def main() -> None:
    try:
        run(arguments())
    except (ValueError, OSError) as error:
        sys.exit(f"cascade: {error}")


if __name__ == "__main__":
    main()
