"""Tables that others published: fetched from their repository, checked, and never stored here.

``data/facts/public_tables.yml`` says where each is. ``SIZEWISE_PUBLISHED`` names folders that hold
the files instead (several with ``:`` between), for a machine with no web. A table that is one file
of its repository is checked by the SHA-256 of the file; one that is collected from several, by a
SHA-256 over its rows in a fixed order and notation, so that folder and repository pass by the same
measure.
"""

import csv
import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sizewise.data import downloads, records
from sizewise.scaling_laws import Runs
from sizewise.scaling_laws.forms import TRAIN_FLOPS

DIGITS = ".10g"  # a mean of 57 subjects differs in the last digits with the order of summation
OUTLIERS = 5  # runs of the highest losses, left out by the replication (Besiroglu et al. 2024)
GEMSTONES_EVERY = 2385  # steps between the points that the paper fits; the file has five times more
OLMO_3B = 3_169_537_280  # parameters of the size that the paper's configuration leaves out
OLMO_LOSS = "eval/c4_en-validation/CrossEntropyLoss"
OLMO_RATIO = 20  # tokens a parameter at one "Chinchilla multiple"
OLMO_SCORES = {
    "bpb": "eval/downstream_bpb/{}_rc_5shot_bpb",
    "acc": "eval/downstream/{}_rc_5shot_len_norm",
}
PYTHIA_STEP = 143000  # the last checkpoint
SUBJECT, SUBJECTS = "hendrycksTest-", 57  # MMLU, one task a subject
RECORD = re.compile(r"^(\d+) \| ([\d.]+) minutes \|.*?\| (\d\d)/(\d\d)/(\d\d) \|", re.M)


@cache
def entry(name: str) -> dict[str, Any]:
    """Where a table is: its entry of ``data/facts/public_tables.yml``."""
    return next(row for row in records.facts("public_tables") if row["name"] == name)


def corpora() -> dict[str, str]:
    """The corpora of Gadre et al. 2024, with the names that their table has for them."""
    return entry("gadre")["corpora"]


def digest(rows) -> str:
    """SHA-256 over the rows, sorted, numbers with ten significant digits."""
    lines = sorted(",".join(_plain(value) for value in row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fetch(name: str) -> Path:
    """A table that is one file, from ``SIZEWISE_PUBLISHED`` or by way of a user cache.

    Raises ValueError if it is not there, cannot be fetched, or is not the file that was pinned.
    """
    table = entry(name)
    return downloads.published(table["file"], table, table["path"], table["sha256"])


def fetch_rows(name: str):
    """A collected table as a data frame, from ``SIZEWISE_PUBLISHED`` or from the repository.

    Columns that hold numbers alone are floats. Raises ValueError as `fetch` does.
    """
    table = entry(name)
    if file := downloads.in_folder(table["file"]):
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    else:
        paths, rows_of = COLLECTED[name]
        parts = []
        for path in paths():  # what arrives is only parsed as text, and checked when complete
            text = downloads.published(table["file"], table, path, None).read_text("utf-8")
            parts += rows_of(path, text)
        frame = pd.DataFrame(parts)
        if key := table.get("key"):  # rows that agree in it are parts of one
            frame = frame.groupby(key, sort=False, as_index=False).first()
    frame = frame[columns(name)].astype(object)
    frame = frame.where(frame.notna(), "")
    if digest(frame.itertuples(index=False)) != table["sha256"]:
        raise ValueError(
            f"{table['file']} holds other rows than {table['repository']} had when pinned"
        )
    frame = frame.replace("", np.nan)
    for column in frame:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if numbers.notna().sum() == frame[column].notna().sum():
            frame[column] = numbers.astype(float)
    return frame


def columns(name: str) -> list[str]:
    """The columns of a collected table, those of its tasks last."""
    table = entry(name)
    if name == "olmo":
        parts = itertools.chain(*table["tasks"].values())
        tasks = [score.format(part) for part in parts for score in OLMO_SCORES.values()]
    else:
        tasks = [f"score_{task}" for task in table.get("tasks", ())]
    return [*table["columns"], *tasks]


def chinchilla(outliers: bool = False) -> Runs:
    """The runs of Hoffmann et al. 2022, figure 4, as Epoch read them off the vector drawing.

    245 runs, or 240 without the five of the highest losses. The drawing tells sizes and FLOPs;
    tokens are C / 6 N. Source: Besiroglu et al. 2024, section 2.
    """
    table = pd.read_csv(fetch("chinchilla"))
    params, spent = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    runs = Runs.from_arrays(params, spent / (TRAIN_FLOPS * params), table["loss"].to_numpy())
    if outliers:
        return runs
    inside = np.ones(len(runs), bool)
    inside[np.argsort(runs.loss, kind="stable")[-OUTLIERS:]] = False
    return runs.subset(inside)


def gadre_table(corpus: str):
    """The models of Gadre et al. 2024 trained on a corpus of `corpora`, as a data frame.

    ``params`` with embeddings, ``tokens``, ``multiple`` (of 20 tokens a parameter), ``loss`` on C4
    in nats a token, ``accuracy``: the mean over its 17 tasks.
    """
    table = fetch_rows("gadre")
    table = table[table["dataset"] == corpora()[corpus]].reset_index(drop=True)
    table["accuracy"] = table[[f"score_{task}" for task in entry("gadre")["tasks"]]].mean(axis=1)
    return table.rename(columns={"loss_c4_val": "loss", "chinchilla_multiplier": "multiple"})


def gadre_runs(corpus: str) -> Runs:
    table = gadre_table(corpus)
    return Runs.from_arrays(*(table[column] for column in ("params", "tokens", "loss")))


def gadre_five() -> Runs:
    """The five runs on C4 behind their published law: four sizes at 20 tokens, one at 320."""
    table = gadre_table("c4")
    smallest = table["params"] == table["params"].min()
    small = (table["params"] < 1e9) & (table["multiple"] == 1)
    rows = table[small | smallest & (table["multiple"] == 16)]
    return Runs(*(rows[column].to_numpy(float) for column in ("params", "tokens", "loss")))


def gemstones(every: int = GEMSTONES_EVERY) -> Runs:
    """Points of 22 models along their training, one each ``every`` steps: McLeish et al. 2025.

    Width and depth vary; the learning rate is constant, so a point of a run is a shorter run.
    """
    table = pd.read_json(fetch("gemstones"), lines=True)
    table = table[table["step"] % every == 0]
    return Runs.from_arrays(
        table["params_active_precise"],
        table["tokens"],
        table["final_loss"],
        cluster=table["run_name"],
    )


def muennighoff() -> Runs:
    """Models of Muennighoff et al. 2023 that read no token twice; repeats of a run as a cluster.

    Read from the printed output of a notebook: name, parameters, tokens, unique tokens, loss.
    """
    cells = json.loads(fetch("muennighoff").read_text(encoding="utf-8"))["cells"]
    texts = (
        "".join(output.get("text", ())) for cell in cells for output in cell.get("outputs", ())
    )
    printed = next(text for text in texts if text.startswith("2b84b4b "))
    lines = [line.split() for line in printed.splitlines()]
    rows = np.array(
        [fields[1:] for fields in lines if len(fields) == 5], float
    )  # others are remarks
    params, tokens, _, loss = rows[rows[:, 1] == rows[:, 2]].T
    return Runs.from_arrays(params, tokens, loss, cluster=params * 1e3 + tokens)


def olmo_table():
    """The last evaluation of the ladder of Bhagia et al. 2024: 30 runs, 190M to 3B.

    ``params`` with the head and without the input embedding, ``tokens``, ``multiple``, ``size``,
    ``loss`` on C4; for each task ``bpb_TASK``, the bits a byte of its right answers, and
    ``acc_TASK``.
    """
    table = fetch_rows("olmo").rename(
        columns={"chinchilla_multiple": "multiple", OLMO_LOSS: "loss"}
    )
    table["size"] = table["run"].str.split("-").str[0]
    table["params"] = table["params"].fillna(OLMO_3B)
    table["tokens"] = OLMO_RATIO * table["params"] * table["multiple"]
    for task, parts in entry("olmo")["tasks"].items():
        for short, pattern in OLMO_SCORES.items():
            table[f"{short}_{task}"] = table[[pattern.format(part) for part in parts]].mean(axis=1)
    return table


def olmo_runs() -> Runs:
    """The ladder's runs; a rerun of a configuration is in its cluster."""
    table = olmo_table()
    return Runs.from_arrays(
        table["params"],
        table["tokens"],
        table["loss"],
        cluster=table["run"].str.removesuffix("-rerun"),
    )


# --- scores of models


@dataclass(frozen=True)
class Benchmark:
    """A column of scores: what it is taken to measure, and what guessing scores.

    ``claimed`` is the size at which one article has its gains level off.
    """

    name: str
    capability: str
    chance: float
    claimed: float | None = None


@cache
def benchmarks() -> dict[str, Benchmark]:
    """The benchmarks of `scores`, by name."""
    return {row["name"]: Benchmark(**row) for row in entry("benchmarks")["scores"]}


@cache
def scores(as_published: bool = False):
    """Scores of Ruan et al. 2024 by model: ``model``, ``family``, ``params``, ``tokens``,
    ``operations``, and the 148 base models' `benchmarks`.

    Sizes are in parameters, data in tokens, operations are 6 N D; unknown ones are missing. With
    ``as_published`` nothing is left out or changed.
    """
    facts = entry("benchmarks")
    rows = pd.read_csv(fetch("benchmarks")).rename(columns=facts["columns"])
    rows[["params", "tokens", "operations"]] *= [1e9, 1e12, 1e21]
    if as_published:
        return rows
    left_out = [*facts["sparse"], *facts["tuned"]]
    rows = rows[~rows["model"].isin(left_out)].set_index("model")
    for model, right in facts["corrected"].items():
        rows.loc[model, list(right)] = list(right.values())
        rows.loc[model, "operations"] = 6 * rows.loc[model, "params"] * rows.loc[model, "tokens"]
    return rows.reset_index()


def emergent():
    """Tasks of which abilities that emerge were reported, with the sizes of `scores`.

    Columns are named ``task_shots_metric``; ``bleu`` is in percent, the others are shares.
    """
    rows = pd.read_csv(fetch("emergent")).rename(columns=entry("benchmarks")["columns"])
    sizes = scores()[["model", "family", "params", "tokens", "operations"]]
    return sizes.merge(rows, on="model", how="inner")


def pythia():
    """Final scores of the Pythia suite, with ``params`` from the models' names.

    Columns ``model``, ``shots``, ``task``, ``metric``, ``value``, ``params``. The names are sizes
    that count embeddings. Source: Biderman et al. (2023), the evaluations in their repository.
    """
    rows = fetch_rows("pythia")
    size = rows["model"].str.split("-").str[0]
    rows["params"] = size.map(lambda s: float(s[:-1]) * {"m": 1e6, "b": 1e9}[s[-1]])
    return rows


def speedrun():
    """Records of training to one loss on eight H100: ``record``, ``days``, ``minutes``, ``date``.

    Days count from the first record. A record that was timed again under new rules keeps its
    first time.
    """
    rows = fetch_rows("speedrun").rename(columns={"minutes_8xH100": "minutes"})
    rows = rows.drop_duplicates("record").reset_index(drop=True)
    dates = pd.to_datetime(rows["date"])
    rows["days"] = (dates - dates.iloc[0]).dt.days.astype(float)
    return rows


# --- the files of collected tables


def _plain(value) -> str:
    try:
        return format(float(value), DIGITS)
    except ValueError:
        return str(value)


def _speedrun_rows(path: str, text: str) -> list[dict]:
    """Record, minutes and date of the first track in the README of modded-nanogpt."""
    track = text.split("\n## Speedrun track 2")[0]  # another loss, other times
    return [
        {"record": n, "minutes_8xH100": t, "date": f"20{y}-{m}-{d}"}
        for n, t, m, d, y in RECORD.findall(track)
    ]


def _pythia_paths() -> list[str]:
    paths = []
    for size in entry("pythia")["sizes"]:
        for model in (size, f"{size}-deduped"):
            folder = "1b-bf16" if model == "1b" else model
            for shots, end in (("zero", folder), ("five", f"{model}-5shot")):
                file = f"{end}_step{PYTHIA_STEP}.json"
                paths.append(f"evals/pythia-v1/pythia-{folder}/{shots}-shot/{file}")
    return paths


def _pythia_rows(path: str, text: str) -> list[dict]:
    """One evaluation, a row a metric; MMLU as a mean of subjects."""
    _, _, model, shots, _ = path.split("/")
    settings = {
        "model": model.removeprefix("pythia-"),
        "shots": shots.removesuffix("-shot"),
        "step": PYTHIA_STEP,
    }
    results = json.loads(text)["results"]
    subjects = [m["acc"] for task, m in results.items() if task.startswith(SUBJECT)]
    scores = [
        (task, metric, value)
        for task, metrics in results.items()
        for metric, value in metrics.items()
        if not (task.startswith(SUBJECT) or metric.endswith("_stderr"))
    ]
    if len(subjects) == SUBJECTS:
        scores.append(("mmlu_macro57", "acc", sum(subjects) / SUBJECTS))
    return [settings | dict(zip(("task", "metric", "value"), s, strict=True)) for s in scores]


def _olmo_paths() -> list[str]:
    tokens = ("0.5xC", "1xC", "1xC-rerun", "2xC", "5xC", "10xC")
    folder = "src/scripts/paper/data/ladder-runs"
    return [f"{folder}/{size}-{n}.csv" for size in entry("olmo")["sizes"] for n in tokens]


def _olmo_rows(path: str, text: str) -> list[dict]:
    """The last evaluation of a run that has a loss on C4."""
    name = Path(path).stem
    size, multiple = name.split("-")[:2]
    evaluated = [row for row in csv.DictReader(text.splitlines()) if row[OLMO_LOSS]]
    settings = {
        "run": name,
        "params": entry("olmo")["sizes"][size],
        "chinchilla_multiple": multiple[:-2],
    }
    return [evaluated[-1] | settings]


def _gadre_paths() -> list[str]:
    shapes = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
    multiples = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    large = {"c4_original": 4.0, "rpj": 32.0, "rw_original": 16.0}
    runs = []
    for corpus, multiple in large.items():
        runs += [f"{corpus}-{shape}-{m}" for shape in shapes for m in multiples]
        runs += [f"{corpus}-open_lm_{size}-1.0" for size in ("1b", "7b")]
        runs.append(f"{corpus}-open_lm_1b-{multiple}")
    runs.remove("c4_original-d=1024_l=24_h=8-32.0")  # was never made
    models = [f"exp_data/models/{run}.json" for run in runs]
    return [*models, *(f"exp_data/evals/evaluation_{run}_heavy.json" for run in runs)]


def _gadre_rows(path: str, text: str) -> list[dict]:
    """One run, or the scores of one."""
    file = json.loads(text)
    if path.startswith("exp_data/evals/"):
        name = Path(path).name.removeprefix("evaluation_").removesuffix("_heavy.json")
        scores = file["eval_metrics"]["icl"]
        return [
            {"name": name} | {f"score_{task}": scores[task] for task in entry("gadre")["tasks"]}
        ]
    settings = file["hyperparameters"]
    (loss,) = (r["loss"] for r in file["results"] if "eval_data/c4_val/" in r["val_data"][0])
    return [
        {
            "name": file["name"],
            "dataset": file["dataset_name"],
            "params": settings["params"],
            "tokens": settings["tokens"],
            "chinchilla_multiplier": settings["chinchilla_multiplier"],
            "loss_c4_val": loss,
        }
    ]


# for each collected table its files, and what makes rows of one: (path, text) -> rows by column
COLLECTED = {
    "speedrun": (lambda: ["README.md"], _speedrun_rows),
    "pythia": (_pythia_paths, _pythia_rows),
    "gadre": (_gadre_paths, _gadre_rows),
    "olmo": (_olmo_paths, _olmo_rows),
}
