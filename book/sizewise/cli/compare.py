"""The command that compares two models on a reader's own questions."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
MOST_REPEATS = 1000
AT_ONCE = 64  # questions


def compare(
    task: Annotated[
        str, typer.Option(metavar="FILE", help="JSON lines, or `example` for a built-in one.")
    ],
    model: Annotated[
        list[str],
        typer.Option(metavar="NAME[@URL]", help="Twice. Local, or at an endpoint: see above."),
    ],
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="Where every model is that names no place.")
    ] = "",
    key_env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable with the key: once, or once a model (`none`: no key).",
            show_default="OPENAI_API_KEY",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send a key over http:// to another machine.")
    ] = False,
    score: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="exact, contains, number or rubric, for items that name none themselves.",
        ),
    ] = "",
    system: Annotated[str, typer.Option(help="A system message for every question.")] = "",
    most: Annotated[int, typer.Option(metavar="TOKENS", help="Length of an answer.")] = 256,
    temperature: Annotated[
        str, typer.Option(help="0 to 2, or `default` for the endpoint's own.")
    ] = "0",
    repeats: Annotated[int, typer.Option(help="Times each question is asked.")] = 1,
    sample: Annotated[int | None, typer.Option(help="Take so many of the items.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of what local models draw.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 60.0,
    retries: Annotated[int, typer.Option(help="Further tries of a request that failed.")] = 4,
    concurrency: Annotated[int, typer.Option(help="Questions at once at an endpoint.")] = 4,
    device: Annotated[str, typer.Option(help="Of local models: cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of local models: fp32, bf16 or fp16.")] = "fp32",
    price_a: Annotated[
        str, typer.Option(metavar="IN,OUT", help="Dollars a million tokens; default: as listed.")
    ] = "",
    price_b: Annotated[str, typer.Option(metavar="IN,OUT", help="The same for B.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="File of the answers; default: FILE.compare.jsonl.")
    ] = None,
    json: Json = False,
):
    """Compare two models on your own questions: quality, price, time, reliability.

    A line of the task is {"prompt": ..., "answer": ...}; `answer` may be a list of right ones.
    Further fields: `id`, `choices` (shown with letters), `score` (the rule), and for a rubric
    `contains`, `regex` or `rubric`: [{"contains" or "regex": ..., "points": ...}].

    A model is a pinned name, a folder, a .gguf file or a hub id that runs here, or NAME@URL: the
    name at an OpenAI-compatible endpoint. With --endpoint URL a bare NAME is there, and NAME@local
    runs here. A key is read from the environment, sent to one host, and written nowhere.

    Every answer is kept: after a stop, the same command goes on, and asks again what failed. Exit
    code 1 says that some questions have no answer.

    Example: sizewise compare --task my.jsonl --model smollm2-135m --model
    small@http://localhost:8000/v1
    """
    from sizewise import validation
    from sizewise.compare import cost, models, report, run
    from sizewise.compare import task as tasks
    from sizewise.compare.endpoint import Asking

    from . import output as show
    from . import show_compare

    validation.whole("most", most, 1 << 20), validation.whole("repeats", repeats, MOST_REPEATS)
    validation.whole("seed", seed, least=0), validation.whole("retries", retries, 100, 0)
    validation.whole("concurrency", concurrency, AT_ONCE)
    asking = Asking(system, most, _temperature(temperature), _timeout(timeout), retries)
    items = tasks.sample(tasks.read(task, score or None), sample, seed)
    pair = models.parse(model, endpoint, key_env, insecure)
    rates = [cost.rates(*both) for both in zip(pair, (price_a, price_b), strict=True)]
    _check_local(pair, device, dtype)
    settings = run.Settings(asking, repeats, seed, concurrency, device, dtype)
    file = output or _beside(task)
    try:
        with _progress() as (started, told):
            answers, plans = run.ask_all(pair, items, settings, file, told, started)
    except KeyboardInterrupt:
        print(
            f"sizewise: stopped; {file} has what came, and the same command goes on",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    except OSError as error:  # of a model's files, say
        if isinstance(error, BrokenPipeError):
            raise
        raise ValueError(f"{error.filename or file}: {error.strerror or error}") from None
    found = report.compare(items, pair, plans, answers, rates, seed)
    found = {"task": task, "file": str(file), "settings": _told(settings)} | found
    if json:
        show.as_json(found)
    else:
        show_compare.compared(found)
    raise typer.Exit(1 if any(one["failed"] for one in found["models"]) else 0)


def _temperature(words: str) -> float | None:
    if words == "default":
        return None
    try:
        value = float(words)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError(f"temperature must be from 0 to 2, or default, got {words!r}")
    return value


def _timeout(value: float) -> float:
    from sizewise import validation

    if validation.positive("timeout", value) > 86400:
        raise ValueError(f"timeout must be at most 86400 seconds, got {value:g}")
    return value


def _check_local(pair, device: str, dtype: str) -> None:
    """Refuse, before anything is asked, a local model that is none or does not fit."""
    from sizewise.models import load
    from sizewise.units import unknown

    if dtype not in load.DTYPES:
        raise unknown("dtype", dtype, load.DTYPES)
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    local = [model for model in pair if not model.url]
    if local and device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("no GPU that torch can use is here; leave --device out")
    for model in local:
        load.check_memory(load.find(model.name), dtype, device)


def _beside(task: str) -> Path:
    """``my.compare.jsonl`` next to ``my.jsonl``; here for the built-in task."""
    from sizewise.compare.task import EXAMPLE

    path = Path(f"{EXAMPLE}.jsonl" if task == EXAMPLE else task)
    return path.with_name(f"{path.stem}.compare.jsonl")


def _told(settings) -> dict:
    asking = settings.asking
    return {
        "system": asking.system,
        "most": asking.most,
        "temperature": asking.temperature,
        "repeats": settings.repeats,
        "seed": settings.seed,
    }


def _shown(question) -> dict:
    """What of a request tells people which one it is."""
    from sizewise.compare.models import CALL

    config = question.config
    where = {"endpoint": (config["endpoint"] or "here").removesuffix(CALL)}
    return {"model": config["model"]} | where | {n: config[n] for n in ("item", "repeat")}


@contextmanager
def _progress():
    """Two functions for `run.ask_all`: a table of the last answers where someone watches."""
    if not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console

    from sizewise.experiments.progress import Progress

    from .show_compare import cut

    shown: list[Progress] = []

    def started(todo) -> None:
        if todo:
            bar = Progress([_shown(one) for one in todo], console=Console(file=sys.stderr))
            shown.append(bar.__enter__())

    def told(question, reply) -> None:
        row = {"failed": reply.failed} if reply.failed else {"answer": cut(reply.text, 60)}
        shown[0].done(_shown(question), row | {"s": reply.seconds or 0.0})

    try:
        yield started, told
    finally:
        for bar in shown:
            bar.__exit__(None, None, None)
