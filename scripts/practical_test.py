"""Put small language models to the same two tasks with the means of `sizewise compare`.

    python scripts/practical_test.py --list
    python scripts/practical_test.py

Each row holds what one model answered to all items of a task at one temperature, as often as it
was asked: with the built-in example, which has a little of everything, greedily and drawn, and
with items made by rule, which are three times as many. Models are those of
`sizewise.models.pretrained` in fp32 on a processor; the functions are those of the command, so
the answers are the ones that

    sizewise compare --task example --model smollm2-135m --model qwen2.5-coder-0.5b --most 24

gives too. Rows go to data/practical_test.jsonl; what has a row is not asked again.
"""

import argparse
import sys
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sizewise import units, validation
from sizewise.chapters.tables import practical_test
from sizewise.compare import run, scoring
from sizewise.compare.endpoint import Asking
from sizewise.compare.local import Local
from sizewise.data import records
from sizewise.experiments import engine
from sizewise.models import load, pretrained

Row = dict[str, Any]
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
GREEDY, DRAWN = 0.0, 0.7  # temperatures: the likeliest token, and one that applications use
REPEATS = 3  # where tokens are drawn
WORDINGS = 3  # of the example, to see what a wording is worth
ONCE = ("qwen2.5-coder-1.5b",)  # the slowest: nothing is drawn
EXAMPLE, ITEMS = 20, 60  # of the example; made by rule
MOST = 64  # tokens of an answer; all items ask for a word, a number or a line


def grid(args) -> list[Row]:
    """A row for each model, task and temperature."""
    rows = []
    for model in args.models:
        plans = [("example", EXAMPLE, GREEDY, 1, WORDINGS), ("made", args.items, GREEDY, 1, 1)]
        if model not in args.once:
            plans.append(("example", EXAMPLE, DRAWN, args.repeats, 1))
        rows += [
            {
                "model": model,
                "task": task,
                "items": items,
                "temperature": temperature,
                "repeats": repeats,
                "wordings": wordings,
                "most": args.most,
                "seed": 0,
            }
            for task, items, temperature, repeats, wordings in plans
        ]
    return rows


def measure(config: Row, threads: int = 1) -> Row:
    """One row; ``threads`` of torch do not make another one of it.

    Raises RuntimeError if a question was not answered.
    """
    import torch

    torch.set_num_threads(threads)
    local = loaded(config["model"])
    items = practical_test.questions(config["task"], config["items"], config["seed"])
    wall, processor = time.perf_counter(), time.process_time()
    rows = ask(local, config)
    spent = {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),
    }
    if failed := [row for row in rows if row["failed"]]:
        raise RuntimeError(f"{failed[0]['item']}: {failed[0]['failed']}")
    return lists(items, rows) | spent | about(config["model"]) | {"threads": threads}


def ask(local: Local, config: Row) -> list[Row]:
    """What a loaded model says: the rows that `run.ask_all` would write, without loading again."""
    local.options = Asking(max_tokens=config["most"], temperature=config["temperature"])
    return [
        question.config | vars(local.ask(question.prompt, run.draw_seed(question, config["seed"])))
        for question in practical_test.plan(config)
    ]


@lru_cache(maxsize=1)
def loaded(name: str) -> Local:
    """The model of this name, after a first answer that is not timed."""
    loaded.cache_clear()  # the one before goes first: loading holds the weights twice
    result = Local(load.find(name), Asking(max_tokens=2))
    result.ask("Say yes.")
    return result


def lists(items, rows: list[Row]) -> Row:
    """Lists with an entry for each item; inside are lists with one for each request."""
    requests = [[row for row in rows if row["item"] == item.name] for item in items]

    def column(name: str) -> list[list]:
        return [[row[name] for row in part] for part in requests]

    return {
        "asked": practical_test.digest(items),
        "names": [item.name for item in items],
        "texts": column("text"),
        "finishes": column("finish"),
        "scores": [
            [scoring.score(item, row["text"]) for row in part]
            for item, part in zip(items, requests, strict=True)
        ],
        "prompt_tokens": column("prompt_tokens"),
        "answer_tokens": column("answer_tokens"),
        "answer_seconds": [[round(row["seconds"], 4) for row in part] for part in requests],
    }


def about(name: str) -> Row:
    """What the model is: its size and the file that its weights come from."""
    entry = pretrained.entry(name)
    return {"parameters": entry.parameters, "weights_sha256": entry.files[0].sha256}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda words: [entry for entry in words.split(",") if entry])
    add("--models", type=names, default=list(MODELS), help="names of sizewise.models.pretrained")
    add(
        "--once",
        type=names,
        default=list(ONCE),
        help="models from which nothing is drawn; '' for none",
    )
    add("--items", type=int, default=ITEMS, help="items made by rule; fewer are the first of more")
    add(
        "--repeats",
        type=int,
        default=REPEATS,
        help="times the example is asked where tokens are drawn",
    )
    add("--most", type=int, default=MOST, help="tokens of an answer")
    add("--threads", type=int, default=1, help="of torch")
    add(
        "--output",
        type=Path,
        default=records.path(practical_test.STEM),
        help="another file than data/practical_test.jsonl",
    )
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    for model in (*args.models, *args.once):
        if model not in pretrained.names():
            raise units.unknown("model", model, pretrained.names("causal"))
        if pretrained.entry(model).kind != "causal":
            raise ValueError(f"{model} is no language model; try {', '.join(MODELS)}")
    for name, most in (("items", 3000), ("repeats", 100), ("most", 4096), ("threads", 1024)):
        validation.whole(f"--{name}", getattr(args, name), most)
    return args


def main() -> None:
    try:
        args = arguments()
        if args.list:
            for row in grid(args):
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        engine.run_all(
            partial(measure, threads=args.threads),
            grid(args),
            args.output,
            workers=1,
            backend="here",
        )
    except (ValueError, RuntimeError) as error:
        sys.exit(f"practical_test: {error}")


if __name__ == "__main__":
    main()
