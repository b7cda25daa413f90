"""Tables that others published: fetched from their repository, checked, and never stored here.

``SIZEWISE_PUBLISHED`` names folders that hold the files instead (several with ``:`` between), for
a machine with no web. A table that is one file of its repository is checked by the SHA-256 of the
file; one that is collected from several, by a SHA-256 over its rows in a fixed order and notation,
so that folder and repository pass by the same measure.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .forms import TRAIN_FLOPS
from .runs import Runs

DIGITS = ".10g"  # a mean of 57 subjects differs in the last digits with the order of summation
OUTLIERS = 5  # runs of the highest losses, left out by the replication (Besiroglu et al. 2024)
CORPORA = {"c4": "c4_original", "redpajama": "rpj", "refinedweb": "rw_original"}
# The 17 tasks on which small models are well above chance: Gadre et al. 2024, section 3.
AVERAGED = (
    "bigbench_operators",
    "pubmed_qa_labeled",
    "hellaswag_zeroshot",
    "boolq",
    "arc_easy",
    "coqa",
    "bigbench_dyck_languages",
    "lambada_openai",
    "bigbench_novel_concepts",
    "winograd",
    "bigbench_cs_algorithms",
    "commonsense_qa",
    "bigbench_qa_wikidata",
    "hellaswag",
    "copa",
    "squad",
    "piqa",
)
GEMSTONES_EVERY = 2385  # steps between the points that the paper fits; the file has five times more
OLMO_3B = 3_169_537_280  # parameters of the size that the paper's configuration leaves out
OLMO_LOSS = "eval/c4_en-validation/CrossEntropyLoss"
OLMO_SIZES = {
    "190M": 190_354_176,
    "370M": 371_262_464,
    "760M": 758_220_288,
    "1B": 1_279_395_840,
    "3B": None,
}
OLMO_RATIO = 20  # tokens a parameter at one "Chinchilla multiple"
PYTHIA_SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
PYTHIA_STEP = 143000  # the last checkpoint
SUBJECT, SUBJECTS = "hendrycksTest-", 57  # MMLU, one task a subject
RECORD = re.compile(r"^(\d+) \| ([\d.]+) minutes \|.*?\| (\d\d)/(\d\d)/(\d\d) \|", re.M)


@dataclass(frozen=True)
class Source:
    """A table of a public repository at a commit; ``name`` is what a local folder calls it.

    With ``rows_of`` (path, text of the file -> rows by column) it is collected from several files,
    and ``sha256`` is the `digest` of the rows in ``columns``; without, it is one file as it stands.
    Rows that agree in ``key`` are parts of one.
    """

    name: str
    repository: str
    commit: str
    paths: tuple[str, ...]
    sha256: str
    columns: tuple[str, ...] = ()
    rows_of: Callable[[str, str], list[dict]] | None = None
    key: str | None = None

    def url(self, path: str) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{path}"


def digest(rows) -> str:
    """SHA-256 over the rows, sorted, numbers with ten significant digits."""
    lines = sorted(",".join(_plain(value) for value in row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fetch(source: Source) -> Path:
    """A table that is one file, from ``SIZEWISE_PUBLISHED`` or by way of a user cache.

    Raises ValueError if it is not there, cannot be fetched, or is not the file that was pinned.
    """
    if (file := _in_folder(source)) is None:
        return _retrieve(source, source.paths[0], f"sha256:{source.sha256}")
    if hashlib.sha256(file.read_bytes()).hexdigest() != source.sha256:
        raise ValueError(f"{file} is not the file of {source.repository}: its SHA-256 differs")
    return file


def fetch_rows(source: Source):
    """A collected table as a data frame, from ``SIZEWISE_PUBLISHED`` or from the repository.

    Columns that hold numbers alone are floats. Raises ValueError as `fetch` does.
    """
    import pandas

    if file := _in_folder(source):
        with file.open(encoding="utf-8", newline="") as lines:
            parts = list(csv.DictReader(lines))
    else:
        parts = []
        for path in source.paths:  # what arrives is only parsed as text, and checked when complete
            parts += source.rows_of(path, _retrieve(source, path, None).read_text(encoding="utf-8"))
    if source.key:
        merged: dict = {}
        for part in parts:
            merged.setdefault(part[source.key], {}).update(part)
        parts = list(merged.values())
    rows = [
        tuple("" if part.get(name) is None else part[name] for name in source.columns)
        for part in parts
    ]
    if digest(rows) != source.sha256:
        raise ValueError(f"{source.name} holds other rows than {source.repository} had when pinned")
    frame = pandas.DataFrame(rows, columns=list(source.columns)).replace("", np.nan)
    for column in frame:
        numbers = pandas.to_numeric(frame[column], errors="coerce")
        if numbers.notna().sum() == frame[column].notna().sum():
            frame[column] = numbers.astype(float)
    return frame


def chinchilla(outliers: bool = False) -> Runs:
    """The runs of Hoffmann et al. 2022, figure 4, as Epoch read them off the vector drawing.

    245 runs, or 240 without the five of the highest losses. The drawing tells sizes and FLOPs;
    tokens are C / 6 N. Source: Besiroglu et al. 2024, section 2.
    """
    import pandas

    table = pandas.read_csv(fetch(CHINCHILLA))
    params, spent = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    runs = Runs.from_arrays(params, spent / (TRAIN_FLOPS * params), table["loss"].to_numpy())
    if outliers:
        return runs
    inside = np.ones(len(runs), bool)
    inside[np.argsort(runs.loss, kind="stable")[-OUTLIERS:]] = False
    return runs.subset(inside)


def gadre_table(corpus: str):
    """The models of Gadre et al. 2024 trained on a corpus of `CORPORA`, as a data frame.

    ``params`` with embeddings, ``tokens``, ``multiple`` (of 20 tokens a parameter), ``loss`` on C4
    in nats a token, ``accuracy``: the mean over `AVERAGED`.
    """
    table = fetch_rows(GADRE)
    table = table[table["dataset"] == CORPORA[corpus]].reset_index(drop=True)
    table["accuracy"] = table[[f"score_{task}" for task in AVERAGED]].mean(axis=1)
    return table.rename(columns={"loss_c4_val": "loss", "chinchilla_multiplier": "multiple"})


def gadre_runs(corpus: str) -> Runs:
    table = gadre_table(corpus)
    return Runs.from_arrays(*(table[column] for column in ("params", "tokens", "loss")))


def gadre_five() -> Runs:
    """The five runs on C4 behind their published law: four sizes at 20 tokens, one at 320."""
    table = gadre_table("c4")
    sizes = table["params"] < 1e9
    smallest = table["params"] == table["params"].min()
    five = sizes & (table["multiple"] == 1) | smallest & (table["multiple"] == 16)
    rows = table[five]
    return Runs(*(rows[column].to_numpy(float) for column in ("params", "tokens", "loss")))


def gemstones(every: int = GEMSTONES_EVERY) -> Runs:
    """Points of 22 models along their training, one each ``every`` steps: McLeish et al. 2025.

    Width and depth vary; the learning rate is constant, so a point of a run is a shorter run.
    """
    import pandas

    table = pandas.read_json(fetch(GEMSTONES), lines=True)
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
    cells = json.loads(fetch(MUENNIGHOFF).read_text(encoding="utf-8"))["cells"]
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
    ``loss`` on C4; for each of `OLMO_TASKS` ``bpb_TASK``, the bits a byte of its right answers, and
    ``acc_TASK``.
    """
    table = fetch_rows(OLMO_LADDER)
    table["size"] = table["run"].str.split("-").str[0]
    table["params"] = table["params"].fillna(OLMO_3B)
    table["multiple"] = table["chinchilla_multiple"]
    table["tokens"] = OLMO_RATIO * table["params"] * table["multiple"]
    table["loss"] = table[OLMO_LOSS]
    for task, parts in OLMO_TASKS.items():
        for short, pattern in (("bpb", OLMO_BITS), ("acc", OLMO_ACCURACY)):
            columns = [pattern.format(part) for part in parts]
            table[f"{short}_{task}"] = table[columns].mean(axis=1)
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


def _in_folder(source: Source) -> Path | None:
    """The file in the folders of ``SIZEWISE_PUBLISHED``; None if the variable is not set."""
    folders = [
        Path(folder) for folder in os.environ.get("SIZEWISE_PUBLISHED", "").split(":") if folder
    ]
    if not folders:
        return None
    for folder in folders:
        if (folder / source.name).is_file():
            return folder / source.name
    raise ValueError(f"SIZEWISE_PUBLISHED: no {source.name} in {', '.join(map(str, folders))}")


def _retrieve(source: Source, path: str, sha256: str | None) -> Path:
    import pooch

    try:
        file = pooch.retrieve(source.url(path), sha256, path=pooch.os_cache("sizewise"))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        reason = str(error).split("\n")[0][:120]
        raise ValueError(
            f"cannot fetch {source.url(path)} ({reason}); a folder that holds {source.name} can "
            "stand in, named by SIZEWISE_PUBLISHED"
        ) from None
    return Path(file)


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


def _pythia_rows(path: str, text: str) -> list[dict]:
    """One evaluation, a row a metric; MMLU as a mean of subjects."""
    model = path.split("/")[2].removeprefix("pythia-")
    shots = path.split("/")[3].removesuffix("-shot")
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
    return [
        {
            "model": model,
            "shots": shots,
            "step": PYTHIA_STEP,
            "task": task,
            "metric": metric,
            "value": value,
        }
        for task, metric, value in scores
    ]


def _pythia_paths() -> tuple[str, ...]:
    models = [f"{size}{kind}" for size in PYTHIA_SIZES for kind in ("", "-deduped")]
    models[models.index("1b")] = "1b-bf16"
    paths = []
    for model in models:
        five = model.removesuffix("-bf16")  # so named in the repository
        paths += [
            f"{model}/zero-shot/{model}_step{PYTHIA_STEP}.json",
            f"{model}/five-shot/{five}-5shot_step{PYTHIA_STEP}.json",
        ]
    return tuple(f"evals/pythia-v1/pythia-{path}" for path in paths)


def _olmo_paths() -> tuple[str, ...]:
    tokens = ("0.5xC", "1xC", "1xC-rerun", "2xC", "5xC", "10xC")
    folder = "src/scripts/paper/data/ladder-runs"
    return tuple(f"{folder}/{size}-{multiple}.csv" for size in OLMO_SIZES for multiple in tokens)


def _olmo_rows(path: str, text: str) -> list[dict]:
    """The last evaluation of a run that has a loss on C4."""
    name = Path(path).stem
    size, multiple = name.split("-")[:2]
    evaluated = [row for row in csv.DictReader(text.splitlines()) if row[OLMO_LOSS]]
    settings = {"run": name, "params": OLMO_SIZES[size], "chinchilla_multiple": multiple[:-2]}
    return [evaluated[-1] | settings]


def _gadre_paths() -> tuple[str, ...]:
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
    return (*models, *(f"exp_data/evals/evaluation_{run}_heavy.json" for run in runs))


def _gadre_rows(path: str, text: str) -> list[dict]:
    """One run, or the scores of one."""
    file = json.loads(text)
    if path.startswith("exp_data/evals/"):
        name = Path(path).name.removeprefix("evaluation_").removesuffix("_heavy.json")
        scores = file["eval_metrics"]["icl"]
        return [{"name": name} | {f"score_{task}": scores[task] for task in AVERAGED}]
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


CHINCHILLA = Source(
    name="chinchilla_figure4_points.csv",
    repository="epoch-research/analyzing-chinchilla",
    commit="92258837425e1b5f2851d624287f0120583a3d0e",
    paths=("data/svg_extracted_data.csv",),
    sha256="193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
)
RUAN = {
    "repository": "ryoungj/ObsScaling",
    "commit": "4d6e1e43fd2635d04654aa77d1df9d5266ea0382",
}
BENCHMARKS = Source(
    name="obs_base_benchmarks.csv",
    paths=("eval_results/base_llm_benchmark_eval.csv",),
    sha256="511996815735a4c46251dc585dcc525e370d148201f86561e6f927f9df2d0db8",
    **RUAN,
)
EMERGENT = Source(
    name="obs_emergent.csv",
    paths=("eval_results/base_llm_emergent_capability_eval.csv",),
    sha256="a156beee73c39b7833c3c53535c473939105512d85e90b0143be7325e516ef7c",
    **RUAN,
)
SPEEDRUN = Source(
    name="speedrun_records.csv",
    repository="KellerJordan/modded-nanogpt",
    commit="f411b3d346aa52d3504324ca93c230fd84c6c07f",
    paths=("README.md",),
    sha256="edf6e10a100bc536b4dad56357fa75574c2cfdf45cced7da148f6c40d9bae701",
    columns=("record", "minutes_8xH100", "date"),
    rows_of=_speedrun_rows,
)
PYTHIA = Source(
    name="pythia_final_scores.csv",
    repository="EleutherAI/pythia",
    commit="a19eecb807ec2c79a39ebf18108816e6ffffc1d5",
    paths=_pythia_paths(),
    sha256="811b2b4ef2c6b9e8c31f4e7b458eaf5397789f6c544dc01eab144874fc96649f",
    columns=("model", "shots", "step", "task", "metric", "value"),
    rows_of=_pythia_rows,
)
GADRE = Source(
    name="gadre_runs.csv",
    repository="mlfoundations/scaling",
    commit="a003c4913793ac2ae7ef87b28ecb562955d026d5",
    paths=_gadre_paths(),
    sha256="622cb40343297632b3cb3b57c3012cefe2bcb235d49a5715a13603b7eb6ee04a",
    columns=(
        "name",
        "dataset",
        "params",
        "tokens",
        "chinchilla_multiplier",
        "loss_c4_val",
        *(f"score_{task}" for task in AVERAGED),
    ),
    rows_of=_gadre_rows,
    key="name",
)
GEMSTONES = Source(
    name="gemstones_hot.jsonl",
    repository="mcleish7/gemstone-scaling-laws",
    commit="5f420478f6057b0cbb4d13405fb10ca64675bccb",
    paths=("wandb_dfs/wandb_df_for_fitting_hot_100b%2B_477.jsonl",),
    sha256="c7a56e023c2cee6be296defc284126778c62387023a6e0c01e57599999591f5d",
)
MUENNIGHOFF = Source(
    name="parametric_fit.ipynb",
    repository="huggingface/datablations",
    commit="13701315b163f1c54642b94ad237b2699187c3ee",
    paths=("utils/parametric_fit.ipynb",),
    sha256="6c65d270e70c944a9ac90f5f1213a4584e1ff9d6d2781cd86900663f4ab17db9",
)
OLMO_BITS = "eval/downstream_bpb/{}_rc_5shot_bpb"
OLMO_ACCURACY = "eval/downstream/{}_rc_5shot_len_norm"
OLMO_TASKS = {
    "mmlu": tuple(f"mmlu_{k}_test" for k in ("stem", "humanities", "social_sciences", "other")),
    "hellaswag": ("hellaswag_val",),
    "arc_challenge": ("arc_challenge_test",),
    "arc_easy": ("arc_easy_test",),
    "piqa": ("piqa_val",),
    "csqa": ("csqa_val",),
    "socialiqa": ("socialiqa_val",),
    "openbookqa": ("openbookqa_test",),
}
OLMO_LADDER = Source(
    name="olmo_ladder.csv",
    repository="allenai/OLMo-ladder",
    commit="67a3f440f787d020da35e3ca8eeae475fae754f5",
    paths=_olmo_paths(),
    sha256="1cd271087be32128d07928c1f405fe9d89877aeccfca3b2ac311f134b79181c2",
    columns=(
        "run",
        "params",
        "chinchilla_multiple",
        OLMO_LOSS,
        *(
            pattern.format(part)
            for parts in OLMO_TASKS.values()
            for part in parts
            for pattern in (OLMO_BITS, OLMO_ACCURACY)
        ),
    ),
    rows_of=_olmo_rows,
)
