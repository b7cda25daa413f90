"""Compare 29 models question by question on MMLU-Pro, and record what comes out.

    python scripts/mmlu_pro.py --list
    python scripts/mmlu_pro.py
    SIZEWISE_PUBLISHED=folder python scripts/mmlu_pro.py     # without a web

The answers are archives of the benchmark's authors (Wang et al. 2024) at a pinned commit, checked
by SHA-256; nothing of them enters this repository. A folder that holds only the table of right and
wrong stands in for all rows but those that need the answers themselves (`answers`, `agreement`),
which are then left out. Rows go to data/mmlu_pro.jsonl; what has a row is not computed again.
"""

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from sizewise import validation
from sizewise.data import downloads, records
from sizewise.evaluation import item_answers
from sizewise.experiments import engine
from sizewise.stats import bootstrap, paired

Row = dict[str, Any]
SEED = 0
SAMPLES = 2000
BANDS = 5  # of difficulty, equally many questions in each
TIMES = 2.0  # by which one model is larger than another at least, to be called larger
FAMILIES = (  # smaller first, of one maker and one recipe
    ("Llama-2-7b-hf", "Llama-2-13b-hf"),
    ("Llama-2-13b-hf", "Llama-2-70b-hf"),
    ("Llama-2-7b-hf", "Llama-2-70b-hf"),
    ("Meta-Llama-3-8B", "Meta-Llama-3-70B"),
    ("Meta-Llama-3_1-8B", "Meta-Llama-3_1-70B"),
    ("Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct"),
    ("Yi-6B", "Yi-34B"),
    ("Qwen1.5-7B-Chat", "Qwen1.5-72B-Chat"),
    ("Mistral-7B-v0.1", "Mixtral-8x7B-v0.1"),
    ("Mistral-7B-Instruct-v0.2", "Mixtral-8x7B-Instruct-v0.1"),
)
SUCCESSORS = tuple(  # later models of seven or eight billion against the 70 billion before
    (small, "Llama-2-70b-hf")
    for small in (
        "Mistral-7B-v0.1",
        "Qwen1.5-7B-Chat",
        "gemma-7b",
        "Meta-Llama-3-8B",
        "Meta-Llama-3_1-8B",
        "Meta-Llama-3_1-8B-Instruct",
        "mathstral-7B",
    )
)
TWINS = (  # of one size and one maker: what disagrees here is no matter of size
    ("Mistral-7B-v0.1", "Mistral-7B-v0.2-hf"),
    ("Meta-Llama-3-8B", "Meta-Llama-3_1-8B"),
    ("Meta-Llama-3-70B", "Meta-Llama-3_1-70B"),
)
FRONTIER = (  # against the best of the table, whose size is not published
    ("Meta-Llama-3_1-8B-Instruct", "gemini-1.5-pro-002"),
    ("mathstral-7B", "gemini-1.5-pro-002"),
    ("Meta-Llama-3_1-70B-Instruct", "gemini-1.5-pro-002"),
)
LARGEST = (("Qwen1.5-72B-Chat", "Qwen1.5-110B"),)  # the one pair from 70B on; tuned against base
CHAINS = (  # three sizes: is a doubling worth as much past the middle one as before it?
    ("Llama-2-7b-hf", "Llama-2-13b-hf", "Llama-2-70b-hf"),
    ("Qwen1.5-7B-Chat", "Qwen1.5-72B-Chat", "Qwen1.5-110B"),  # the last is not tuned
)
LEVELLED = 0.25  # of what a doubling gained before: under this share gains have levelled off
PAIRS = {
    "family": FAMILIES,
    "successor": SUCCESSORS,
    "twin": TWINS,
    "frontier": FRONTIER,
    "largest": LARGEST,
}
SMALL = ("Meta-Llama-3_1-8B-Instruct", "mathstral-7B", "Phi-3-mini-4k-instruct", "gemma-7b")
LARGE = "Meta-Llama-3_1-70B-Instruct"
WHOLE = ("answers", "agreement")  # rows that need the answers themselves
STATED = re.compile(r"answer is \(?([A-J])\)?")
LABELLED = re.compile(r"[aA]nswer:\s*\(?([A-J])")
ALONE = re.compile(r"\b[A-J]\b")


# --- the archives


@dataclass(frozen=True)
class Answers:
    """Models on the same questions. ``right`` holds 1, 0, or NaN where a model was not asked.

    The others need the archives: ``letters`` as extracted by the authors ("" for none),
    ``again`` by one rule for all models, ``characters`` that a model wrote, ``chance`` of a guess.
    """

    models: list[str]
    questions: np.ndarray  # (questions,) ids, in order
    subjects: np.ndarray  # (questions,)
    right: np.ndarray  # (models, questions)
    letters: np.ndarray = field(repr=False, default=None)  # (models, questions)
    again: np.ndarray = field(repr=False, default=None)  # (models, questions)
    key: np.ndarray = field(repr=False, default=None)  # (questions,) the right letters
    characters: np.ndarray = field(repr=False, default=None)  # (models, questions)
    chance: np.ndarray = field(repr=False, default=None)  # (questions,)

    def right_of(self, model: str) -> np.ndarray:
        """Right and wrong of a model: (questions,), NaN where it was not asked."""
        return self.right[self.models.index(model)]

    @property
    def complete(self) -> bool:
        """Whether the answers themselves are known, and not only which were right."""
        return self.letters is not None


@cache
def load() -> Answers:
    """All answers. From the archives, or from the table where the folder has no archives.

    Raises ValueError for a file that cannot be had, or is not the one that was pinned.
    """
    facts, models = item_answers.facts(), item_answers.models()
    folders = os.environ.get("SIZEWISE_PUBLISHED", "").split(":")
    files = {
        f"model_outputs_{model}_5shots.zip": entry["sha256"] for model, entry in models.items()
    }
    if any(folders) and not any((Path(folder) / next(iter(files))).is_file() for folder in folders):
        table = facts["table"]
        return _from_table(downloads.published(table["name"], facts, "", table["sha256"]))
    return _from_archives(
        [
            downloads.published(name, facts, f"{facts['folder']}/{name}", sha256)
            for name, sha256 in files.items()
        ]
    )


def _from_table(file: Path) -> Answers:
    import pandas

    table = pandas.read_csv(file).sort_values("question_id")
    names = list(item_answers.models())
    return Answers(
        names,
        table["question_id"].to_numpy(),
        table["category"].to_numpy(str),
        table[names].to_numpy(float).T,
    )


def _from_archives(files: list[Path]) -> Answers:
    archives = [{int(row["question_id"]): row for row in _read(file)} for file in files]
    every = {question: row for rows in archives for question, row in rows.items()}
    questions = sorted(every)
    shape = len(files), len(questions)
    right, characters = np.full(shape, np.nan), np.full(shape, np.nan)
    letters, again = np.full(shape, "", "U1"), np.full(shape, "", "U1")
    for at, rows in enumerate(archives):
        for number, question in enumerate(questions):
            row = rows.get(question)
            if row is None:
                continue
            right[at, number] = row["pred"] == row["answer"]
            letters[at, number] = row["pred"] or ""
            again[at, number] = extract(row["text"])
            characters[at, number] = len(row["text"])
    return Answers(
        list(item_answers.models()),
        np.array(questions),
        np.array([every[question]["category"] for question in questions]),
        right,
        letters,
        again,
        np.array([every[question]["answer"] for question in questions]),
        characters,
        np.array([1 / len(every[question]["options"]) for question in questions]),
    )


def _read(file: Path) -> list[dict[str, Any]]:
    """The rows of an archive, which holds one JSON list; some end in sums that are no rows."""
    ((_, content),) = downloads.members(file, r".*\.json")
    rows = [row for row in json.loads(content) if isinstance(row, dict)]
    for row in rows:
        text = row.get("generated_text") or row.get("model_outputs") or ""
        row["text"] = text[0] if isinstance(text, list) else text
    return rows


def extract(text: str) -> str:
    """The letter that a text states, by the three rules of the benchmark's present code: "answer
    is (X)", "Answer: X", the last letter that stands alone; empty without one.

    Older archives were made with the first two alone, and in some a missing letter was drawn at
    random, so that scores of different archives are not quite scores by one rule.
    """
    if match := STATED.search(text):
        return match[1]
    if matches := LABELLED.findall(text):
        return matches[-1]
    return (ALONE.findall(text) or [""])[-1]


# --- the rows


def grid() -> list[Row]:
    subjects = [*item_answers.GROUPS, *sorted(sum(item_answers.GROUPS.values(), ()))]
    # "computer science" is the group "code" by itself
    subjects.remove("computer science")
    pairs = [
        {"kind": kind, "small": small, "large": large}
        for kind, group in PAIRS.items()
        for small, large in group
    ]
    return [
        *({"what": "score", "model": model} for model in item_answers.models()),
        *({"what": "pair", **pair} for pair in pairs),
        *(
            {"what": "subject", **pair, "subject": subject}
            for pair in pairs
            if pair["kind"] in ("family", "largest", "frontier")
            for subject in subjects
        ),
        *(
            {"what": "band", **pair, "band": band}
            for pair in pairs
            if pair["kind"] in ("family", "twin", "successor")
            for band in range(BANDS)
        ),
        *(
            {"what": "doubling", "chain": list(chain), "subject": subject}
            for chain in CHAINS
            for subject in ("all", *item_answers.GROUPS)
        ),
        {"what": "order", "times": TIMES},
        *({"what": "answers", "model": model} for model in item_answers.models()),
        *(
            {"what": "agreement", "small": list(group), "large": LARGE}
            for number in (1, 2, 3, 4)
            for group in combinations(SMALL, number)
            if group[0] == SMALL[0]
        ),
    ]


def measure(config: Row) -> Row:
    """One row; see data/mmlu_pro.md."""
    return globals()[config["what"]](load(), config)


def score(answers, config: Row) -> Row:
    right = answers.right_of(config["model"])
    right = right[~np.isnan(right)]
    return {"items": len(right)} | paired.accuracy(right).columns("right")


def both(answers, config: Row) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right and wrong of the two models on the questions that both were asked, and which these
    are."""
    small, large = answers.right_of(config["small"]), answers.right_of(config["large"])
    requested = ~np.isnan(small) & ~np.isnan(large)
    return small[requested], large[requested], requested


def pair(answers, config: Row) -> Row:
    """The paired gain from the smaller to the larger model."""
    import pandas

    small, large, requested = both(answers, config)
    tables = [
        pandas.DataFrame({"subject": answers.subjects[requested], "right": right})
        for right in (large, small)
    ]
    clustered = bootstrap.paired(*tables, "right", by="subject", samples=SAMPLES, seed=SEED)
    test = paired.mcnemar(int((large > small).sum()), int((small > large).sum()))[1]
    return {
        **gain(small, large),
        "clustered_low": 100 * clustered.difference.low,
        "clustered_high": 100 * clustered.difference.high,
        "p": test,
        "either_right": float(np.maximum(small, large).mean()),
    }


def gain(small: np.ndarray, large: np.ndarray) -> Row:
    """Counts and the difference in points with its interval by questions."""
    only_small, only_large = int((small > large).sum()), int((large > small).sum())
    difference = paired.difference_interval(only_large, only_small, len(small))
    return {
        "items": len(small),
        "small_right": float(small.mean()),
        "large_right": float(large.mean()),
        "only_small": only_small,
        "only_large": only_large,
        "gain": 100 * difference.value,
        "gain_low": 100 * difference.low,
        "gain_high": 100 * difference.high,
        "discordant": (only_small + only_large) / len(small),
        # of the questions that the larger one gets wrong
        "small_right_where_large_wrong": float(small[large == 0].mean())
        if (large == 0).any()
        else None,
    }


def subject(answers, config: Row) -> Row:
    small, large, requested = both(answers, config)
    subjects = item_answers.GROUPS.get(config["subject"], (config["subject"],))
    part = np.isin(answers.subjects[requested], subjects)
    test = gain(small[part], large[part])
    return test | {"p": paired.mcnemar(test["only_large"], test["only_small"])[1]}


def doubling(answers, config: Row) -> Row:
    """Points that a doubling of the parameters gains below and above a middle size, and what the
    second has over a quarter of the first, with its interval by questions."""
    import pandas

    scores = np.stack([answers.right_of(model) for model in config["chain"]])  # (3, questions)
    part = ~np.isnan(scores).any(axis=0)
    if config["subject"] != "all":
        part &= np.isin(answers.subjects, item_answers.GROUPS[config["subject"]])
    sizes = [item_answers.models()[model]["parameters"] for model in config["chain"]]
    doublings = np.diff(np.log2(sizes))  # (2,)
    before, after = 100 * np.diff(scores[:, part], axis=0) / doublings[:, None]
    table = pandas.DataFrame(
        {"item": np.arange(len(after)), "subject": answers.subjects[part]}
        | {"over": after - LEVELLED * before}
    )
    row = {"items": len(after), "before": float(before.mean()), "after": float(after.mean())}
    row |= estimated("over_quarter", table, "item")
    if config["subject"] == "code":  # one subject cannot be drawn from
        return row
    clustered = estimated("clustered", table, "subject")
    return row | {name: clustered[name] for name in ("clustered_low", "clustered_high")}


def estimated(name: str, table, by: str) -> Row:
    """The mean of the column ``over`` with its interval, drawing ``by``."""
    return bootstrap.ratio(table, "over", by=by, samples=SAMPLES, seed=SEED).columns(name)


def band(answers, config: Row) -> Row:
    """One of five bands of questions, from those that other models mostly get right to those that
    they mostly get wrong. Models of the pair's own families do not judge."""
    small, large, requested = both(answers, config)
    kin = {item_answers.models()[config[size]]["family"].split()[0] for size in ("small", "large")}
    judges = [
        model
        for model, facts in item_answers.models().items()
        if facts["family"].split()[0] not in kin
    ]
    share = np.nanmean([answers.right_of(model)[requested] for model in judges], axis=0)
    order = np.argsort(-share, kind="stable")
    part = np.array_split(order, BANDS)[config["band"]]
    return gain(small[part], large[part]) | {
        "judges": len(judges),
        "judged_right": float(share[part].mean()),
    }


def order(answers, config: Row) -> Row:
    """All pairs of models of known size, of which one is larger by a factor: how often the smaller
    is ahead, and how often its lead is statistically significant after Holm's correction."""
    from scipy.stats import spearmanr

    sizes = {m: f["parameters"] for m, f in item_answers.models().items() if f["parameters"]}
    counts, p_values, ahead = 0, [], []
    for small, large in combinations(sorted(sizes, key=sizes.get), 2):
        if sizes[large] < config["times"] * sizes[small]:
            continue
        a, b, _ = both(answers, {"small": small, "large": large})
        only_a, only_b = int((a > b).sum()), int((b > a).sum())
        counts += 1
        p_values.append(paired.mcnemar(only_a, only_b)[1])
        ahead.append(only_a > only_b)
    significant = (paired.holm(p_values) < 0.05) & np.array(ahead)
    scores = [np.nanmean(answers.right_of(model)) for model in sizes]
    return {
        "pairs": counts,
        "smaller_ahead": int(sum(ahead)),
        "smaller_ahead_significantly": int(significant.sum()),
        "models": len(sizes),
        "rank": float(spearmanr(list(sizes.values()), scores).statistic),
    }


def answers(data, config: Row) -> Row:
    """What the archive of a model holds beside right and wrong."""
    at = data.models.index(config["model"])
    requested = ~np.isnan(data.right[at])
    again = (data.again[at] == data.key)[requested]
    from_nowhere = (data.letters[at] != "") & (data.again[at] == "")
    return {
        "items": int(requested.sum()),
        "chance": float(data.chance[requested].mean()),
        "no_letter": float((data.letters[at] == "")[requested].mean()),
        "no_letter_again": float((data.again[at] == "")[requested].mean()),
        "letter_from_nowhere": float(from_nowhere[requested].mean()),
        "characters": float(data.characters[at][requested].mean()),
    } | paired.accuracy(again.astype(float)).columns("right_again")


def agreement(answers, config: Row) -> Row:
    """A cascade by agreement: where the small models give one and the same letter it is kept, else
    the large model is asked. One small model alone is never asked twice."""
    rows = [answers.models.index(model) for model in config["small"]]
    large = answers.right_of(config["large"])
    letters = answers.letters[rows]  # (small models, questions)
    alone = (letters[0] == answers.key).astype(float)
    remaining = (letters == letters[0]).all(axis=0) & (letters[0] != "")
    if len(rows) == 1:
        return {
            "items": len(large),
            "handed_on": 0.0,
            "right": float(alone.mean()),
            "large_right": float(large.mean()),
            "characters_small": characters(answers, rows),
        }
    result = np.where(remaining, alone, large)
    share = float((~remaining).mean())
    at_random = alone + share * (large - alone)  # what handing on as many at random earns
    table = {"item": np.arange(len(large)), "gain": result - at_random}
    import pandas

    over = bootstrap.ratio(pandas.DataFrame(table), "gain", by="item", samples=SAMPLES, seed=SEED)
    return {
        "items": len(large),
        "handed_on": share,
        "right": float(result.mean()),
        "right_where_kept": float(alone[remaining].mean()),
        "large_right_where_kept": float(large[remaining].mean()),
        "large_right": float(large.mean()),
        "over_random": 100 * over.value,
        "over_random_low": 100 * over.low,
        "over_random_high": 100 * over.high,
        "characters_small": characters(answers, rows),
        "characters_large": float(
            answers.characters[answers.models.index(config["large"])][~remaining].mean()
        ),
    }


def characters(answers, rows: list[int]) -> list[float]:
    return [float(np.nanmean(answers.characters[row])) for row in rows]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--output",
        type=Path,
        default=records.path("mmlu_pro"),
        help="another file than data/mmlu_pro.jsonl",
    )
    parser.add_argument("--list", action="store_true", help="print the rows and compute none")
    args = parser.parse_args(argv)
    validation.whole("--workers", args.workers, 4096)
    return args


def main() -> None:
    try:
        args = arguments()
        rows = grid()
        if args.list:
            for row in rows:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        if not load().complete:
            left = [row for row in rows if row["what"] in WHOLE]
            rows = [row for row in rows if row["what"] not in WHOLE]
            print(f"mmlu_pro: {len(left)} rows need the archives and are left out", file=sys.stderr)
        engine.run_all(measure, rows, args.output, workers=args.workers)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"mmlu_pro: {error}")


if __name__ == "__main__":
    main()
