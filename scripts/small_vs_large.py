"""Put small and larger language models to the same questions, and keep every answer.

    python scripts/small_vs_large.py --list
    python scripts/small_vs_large.py --workers 2
    python scripts/small_vs_large.py --models smollm2-135m --tasks arc-easy,piqa --more all

Models are those of `sizewise.models.pretrained`, fetched once and checked by their SHA-256, in
bf16 on a processor. A row holds a model's answers to questions of one task, question by
question, so that models can be compared on the same ones, and what it took in time and memory.
The rows of a task's sample hold the likelihoods of all choices; those of the further questions
that ``--more`` asks hold right and wrong alone, or a full set would be too large a file. Rows go
to data/small_vs_large.jsonl; what has a row is not measured again, and a run that was killed goes
on. GSM8K and HumanEval are put to tuned models alone, as a chat. Times are of one machine: leave
it alone while this runs.
"""

import argparse
import sys
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sizewise import units, validation
from sizewise.data import records
from sizewise.evaluation import exact_match, multiple_choice, tasks
from sizewise.experiments import engine
from sizewise.models import pretrained
from sizewise.stats import paired

Row = dict[str, Any]
MODELS = ("smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
READ = (*tasks.TASKS, "lambada")  # by likelihood
WRITTEN = {"gsm8k": 30, "humaneval": 30}  # questions of each: an answer takes hundreds of passes
FEWER = {"hellaswag": 2, "boolq": 2, "qwen2.5-coder-1.5b": 2}  # times as few where each costs most
PART = 50  # questions of a row
MORE_PART = 150  # of a row without likelihoods
WRITTEN_PART = 15  # of a row of further written answers, which take minutes
DISCORDANT = 0.2  # share of questions on which two models differ, to tell what a size can show


def grid(args) -> list[Row]:
    """A row for each part of each task, those of one model together."""
    result = []
    for model in args.models:
        for task in args.tasks:
            if task in WRITTEN and not tuned(model):
                continue
            base = {"model": model, "dtype": args.dtype, "task": task}
            base |= {"chat": True} if task in WRITTEN else {}
            sample, every = size(args, model, task), whole(task).questions
            result += [base | part | {"seed": 0} for part in parts(0, sample, PART)]
            base |= {} if task in WRITTEN else {"likelihoods": False}
            further = parts(sample, every, WRITTEN_PART if task in WRITTEN else MORE_PART)
            # whole parts, so that a later call with more goes on behind them
            limit = every if args.more == "all" else sample + args.more
            result += [base | part | {"seed": 0} for part in further if part["first"] < limit]
    return result


def parts(start: int, stop: int, size: int) -> list[Row]:
    """The questions from ``start`` to ``stop`` in parts of at most so many."""
    return [
        {"first": first, "count": min(size, stop - first)} for first in range(start, stop, size)
    ]


def whole(task: str):
    """A task of either kind."""
    return tasks.TASKS[task] if task in tasks.TASKS else exact_match.task_named(task)


def size(args, model: str, task: str) -> int:
    """Questions of a task's sample: the long tasks and the largest model get fewer.

    Never more than the task has.
    """
    requested = args.answers.get(task, args.items) // (FEWER.get(model, 1) * FEWER.get(task, 1))
    return max(1, min(requested, whole(task).questions))


def refuse_overlap(configs: list[Row], file: Path) -> None:
    """Raises ValueError where a new part holds questions that another part has recorded.

    A model that answered a question twice would count twice.
    """
    recorded = {row["id"]: row for row in records.read(file)}
    taken: dict[tuple, dict[int, str]] = {}
    for name, row in recorded.items():
        numbers = taken.setdefault((row["model"], row["dtype"], row["task"]), {})
        numbers |= dict.fromkeys(range(row["first"], row["first"] + row["count"]), name)
    for config in configs:
        numbers = taken.get((config["model"], config["dtype"], config["task"]), {})
        new = range(config["first"], config["first"] + config["count"])
        if records.identity(config) not in recorded and any(number in numbers for number in new):
            raise ValueError(
                f"questions {new.start} to {new.stop - 1} of {config['task']} are partly recorded "
                f"for {config['model']} in another part; ask with the same --items and --answers"
            )


def tuned(model: str) -> bool:
    """Whether a model was tuned to answer in a chat."""
    return "Instruct" in pretrained.entry(model).holds


def measure(config: Row, threads: int = 1, batch: int = 16) -> Row:
    """One row. Neither ``threads`` of torch nor the ``batch`` makes another row of it."""
    import torch

    torch.set_num_threads(threads)
    result, stored = loaded(config["model"], config["dtype"])
    selected = questions(config["task"], config["first"], config["count"])
    reset = forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    text = (choose if config["task"] in tasks.TASKS else answer)(result, config, selected, batch)
    spent = {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),
    }
    if reset:
        spent["peak_bytes"] = peak()
    return (
        text
        | spent
        | {
            "threads": threads,
            "batch": batch,
            "parameters": result.entry.parameters,
            "held_bytes": stored,
            "weights_sha256": result.sha256,
        }
    )


def questions(task: str, first: int, count: int) -> list:
    """The questions of a part. One sample begins another, so parts do not depend on the size."""
    until = first + count
    every = tasks.items(task, until) if task in tasks.TASKS else whole(task).items(until)
    return every[first:]


def choose(result, config: Row, items, batch: int) -> Row:
    """Multiple choice: for each question the nats, tokens and bytes of each choice."""
    task = tasks.task(config["task"])
    table = multiple_choice.score(result.model, result.tokenizer, items, batch=batch)
    chosen = {
        "items": [item.name for item in items],
        "right": multiple_choice.picked(table)[task.norm].tolist(),
        "norm": task.norm,
        "answers": [item.answer for item in items],
        "chosen": multiple_choice.choices(table, task.norm).tolist(),
        "tokens_read": int(table.read.sum()),
        "tokens_written": 0,
    }
    if not config.get("likelihoods", True):
        return chosen
    by_item = table.groupby("item", sort=False)
    return chosen | {
        "nats": [[round(value, 5) for value in part] for _, part in by_item["nats"]],
        "tokens": [part.tolist() for _, part in by_item["tokens"]],
        "bytes": [part.tolist() for _, part in by_item["bytes"]],
    }


def answer(result, config: Row, items, batch: int) -> Row:
    """Answers that must match: LAMBADA's last word, read, and what is written.

    ``tokens_read`` counts the text of the questions. What a chat template adds to it, also read,
    is left out, and LAMBADA's last token, which is predicted and not read, is counted: so it is
    in all rows that are recorded.
    """
    chat = config.get("chat", False)
    table = exact_match.score(
        result.model, result.tokenizer, config["task"], items, batch=batch, chat=chat
    )
    prompts = [item.chat if chat else item.prompt for item in items]
    read = sum(map(len, result.tokenizer(prompts)["input_ids"]))
    size = int(table.tokens.sum())
    result = {"items": table["item"].tolist(), "right": table.right.astype(int).tolist()}
    if config.get("likelihoods", True):
        result["tokens"] = [[size] for size in table.tokens.tolist()]
    if config["task"] != "lambada":
        spent = {"tokens_read": read, "tokens_written": size}
        return result | {"texts": table.answer.tolist()} | spent
    if config.get("likelihoods", True):
        result["nats"] = [[round(value, 5)] for value in table.nats]
    return result | {"tokens_read": read + size, "tokens_written": 0}


@lru_cache(maxsize=1)
def loaded(name: str, dtype: str):
    """The model of this name and the bytes of its tensors, after a first pass that is not timed."""
    import torch
    from sizewise.quantization import tensor_bytes

    result = pretrained.load(name, dtype)
    with torch.no_grad():
        result.model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    return result, tensor_bytes.measure_bytes(result.model).total


def forget_peak() -> bool:
    """Start the peak of this process's memory anew; False where the system cannot (not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """The most memory in bytes that this process had resident since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("this system does not tell the peak of a process's memory")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda words: words.split(","))
    add("--models", type=names, default=list(MODELS), help="names of sizewise.models.pretrained")
    add("--tasks", type=names, default=[*READ, *WRITTEN], help=f"of {', '.join((*READ, *WRITTEN))}")
    add(
        "--items",
        type=int,
        default=300,
        help="questions of a task that is read, at most all, "
        f"divided by {' and '.join(f'{n} for {label}' for label, n in FEWER.items())}; how small a "
        "difference so many can show, --list says",
    )
    add(
        "--answers",
        type=int,
        help="questions of a task that is written, instead of "
        + ", ".join(f"{count} of {task}" for task, count in WRITTEN.items()),
    )
    add(
        "--more",
        default="0",
        help="further questions of each task after the sample, up to whole rows of "
        f"{MORE_PART} ({WRITTEN_PART} written), or all; they are kept without likelihoods",
    )
    add("--dtype", choices=list(pretrained.DTYPES), default="bf16", help="of weights and products")
    add("--batch", type=int, default=16, help="choices, or answers, that go through together")
    add("--threads", type=int, default=1, help="of torch, in each worker")
    add("--workers", type=int, default=1, help="processes; each holds a model of its own")
    add(
        "--output",
        type=Path,
        default=records.path("small_vs_large"),
        help="another file than data/small_vs_large.jsonl",
    )
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    for task in args.tasks:
        if task not in (*READ, *WRITTEN):
            raise units.unknown("task", task, (*READ, *WRITTEN))
    for model in args.models:
        if pretrained.entry(model).kind != "causal":
            raise ValueError(f"{model} is no language model; try {', '.join(MODELS)}")
    for name in ("items", "batch", "threads", "workers"):
        validation.whole(f"--{name}", getattr(args, name), 10_000)
    if args.answers is not None:
        validation.whole("--answers", args.answers, 10_000)
    if args.more != "all":
        try:
            args.more = int(args.more)
        except ValueError:
            raise ValueError(f"--more is a number or all, got {args.more!r}") from None
        validation.whole("--more", args.more, 20_000, 0)
    args.answers = {task: args.answers or count for task, count in WRITTEN.items()}
    return args


def show(args) -> None:
    """Print the rows, and what so many questions can tell apart."""
    for row in grid(args):
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    planned: dict[tuple, int] = {}
    for row in grid(args):
        key = row["model"], row["task"]
        planned[key] = planned.get(key, 0) + row["count"]
    for count in sorted(set(planned.values())):
        try:
            smallest = f"a difference from {paired.detectable(DISCORDANT, count):.1%} on"
        except ValueError:
            smallest = "no difference"
        print(
            f"{count} questions: where two models differ on {DISCORDANT:.0%}, {smallest} is found "
            "with power 0.8"
        )


def main() -> None:
    try:
        args = arguments()
        if args.list:
            return show(args)
        refuse_overlap(grid(args), args.output)
        way = partial(measure, threads=args.threads, batch=args.batch)
        engine.run_all(
            way,
            grid(args),
            args.output,
            workers=args.workers,
            backend="here" if args.workers == 1 else "process",
        )
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"small_vs_large: {error}")


if __name__ == "__main__":
    main()
