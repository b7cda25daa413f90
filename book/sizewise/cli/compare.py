"""The command that compares two models on a reader's own questions, and what it prints."""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sizewise.units import optional

from .options import Json

MOST_REPEATS = 1000
AT_ONCE = 64  # questions
LINES = 20  # items in sight
REASONS = 3  # kinds of failure in sight, for each model
ANSWER = 60  # characters of an answer in sight
NAME = 300  # of a model's name with its address: it is folded, since its end may tell it apart
DECIDED = "decided"


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
    most: Annotated[
        int, typer.Option(metavar="TOKENS", help="Length of an answer, thoughts included.")
    ] = 4096,
    temperature: Annotated[
        str, typer.Option(help="0 to 2, or `default` for the endpoint's own.")
    ] = "0",
    wordings: Annotated[
        int,
        typer.Option(help="Ways to word each question, up to 3; 0: as the file has it."),
    ] = 1,
    repeats: Annotated[int, typer.Option(help="Times each question is asked.")] = 1,
    until: Annotated[
        str,
        typer.Option(metavar="decided", help="Stop as soon as the better model is known."),
    ] = "",
    margin: Annotated[
        float,
        typer.Option(metavar="POINTS", help="With --until: a difference too small to matter."),
    ] = 5.0,
    sample: Annotated[int | None, typer.Option(help="Take so many of the items.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of what local models draw.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 300.0,
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

    Thoughts are put aside and kept; what is marked is the answer that a model states, whatever
    its style. Answers cut at --most tokens are counted apart. With --wordings 3 each question is
    put in three ways, so that a difference of style is seen as one. With --until decided the items
    come in random order and the run stops when it is known which model is better, or that they
    are within --margin points; the interval then holds although one looked again and again.

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

    validation.whole("most", most, 1 << 20), validation.whole("repeats", repeats, MOST_REPEATS)
    validation.whole("seed", seed, least=0), validation.whole("retries", retries, 100, 0)
    validation.whole("concurrency", concurrency, AT_ONCE)
    validation.whole("wordings", wordings, len(tasks.WORDINGS), 0)
    if until not in ("", DECIDED):
        raise ValueError(f"--until takes the word {DECIDED}, got {until!r}")
    if not 0 <= margin <= 100:
        raise ValueError(f"margin must be from 0 to 100 points, got {margin:g}")
    if validation.positive("timeout", timeout) > 86400:
        raise ValueError(f"timeout must be at most 86400 seconds, got {timeout:g}")
    options = Asking(system, most, _temperature(temperature), timeout, retries)
    items = tasks.sample(tasks.read(task, score or None), sample, seed)
    pair = models.parse(model, endpoint, key_env, insecure)
    rates = [cost.rates(*both) for both in zip(pair, (price_a, price_b), strict=True)]
    _check_local(pair, device, dtype)
    settings = run.Settings(options, repeats, seed, concurrency, device, dtype, wordings)
    if until:
        items = tasks.shuffled(items, seed)
    beside = Path(f"{task}.jsonl" if task == tasks.EXAMPLE else task)
    file = output or beside.with_name(f"{beside.stem}.compare.jsonl")
    try:
        with _progress(pair) as watch:
            if until:
                watch.enough = lambda plans, answers: report.settled(
                    items, plans, answers, margin / 100
                )
            answers, plans = run.ask_all(pair, items, settings, file, watch)
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
    margin_of_run = margin / 100 if until else None
    compared = report.compare(items, pair, plans, answers, rates, seed, margin_of_run)
    result: dict[str, Any] = {
        "task": task,
        "file": str(file),
        "of_items": len(items),
        "settings": {
            "system": system,
            "most": most,
            "temperature": options.temperature,
            "wordings": wordings,
            "repeats": repeats,
            "seed": seed,
            "until": until,
        },
    } | compared
    show.as_json(result) if json else print_report(result)
    raise typer.Exit(1 if any(described["failed"] for described in compared["models"]) else 0)


def _temperature(supplied: str) -> float | None:
    if supplied == "default":
        return None
    try:
        value = float(supplied)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError(f"temperature must be from 0 to 2, or default, got {supplied!r}")
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


# -- while it runs


def running_scores(pair, scores: dict[Any, list[float]]) -> str:
    """The two scores so far, each with its interval, on a line; ``scores`` by name and place."""
    from sizewise.stats import paired

    parts = []
    for letter, model in zip("AB", pair, strict=True):
        values = scores.get((model.name, model.place), [])
        if not values:
            parts.append(f"{letter} -")
            continue
        mean = paired.wilson(sum(values) / len(values), len(values))
        parts.append(
            f"{letter} {100 * mean.value:.0f} ({100 * mean.low:.0f} to {100 * mean.high:.0f}) "
            f"of {len(values)}"
        )
    return "   ".join(parts)


@contextmanager
def _progress(pair):
    """A `run.Watch` with a bar and the running scores, where someone looks on."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from sizewise.compare import endpoint, run, scoring

    from . import output

    scores: dict[Any, list[float]] = {}
    note = TextColumn("score, % (95 % interval): {task.description}")
    with output.bars(BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), note) as bars:
        bar = bars.add_task("", total=None)

        def replied(question, reply) -> None:
            if bars.disable:
                return
            if endpoint.outcome(vars(reply)) == "answered":
                key = question.config["model"], question.config["endpoint"]
                scores.setdefault(key, []).append(scoring.score(question.item, reply.text))
            bars.update(bar, advance=1, description=running_scores(pair, scores))

        yield run.Watch(lambda todo: bars.update(bar, total=len(todo)), replied)


# -- the report


def cut(text: str, width: int = ANSWER) -> str:
    """A text on one line, without what moves a terminal's cursor, cut to ``width`` characters."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def print_report(result: dict[str, Any]) -> None:
    """The items that differ, the figures side by side, the verdict, and what has no answer."""
    _answers(result["answers"])
    _figures(result)
    if result["difference"]:
        print(cut(_difference(result["difference"]), 10_000))
    if result["items"] < result["of_items"]:
        print(f"Decided after {result['items']} of {result['of_items']} items.")
    print(f"\nVerdict: {cut(result['verdict'], 10_000)}")
    _unanswered(result["models"])
    print(f"All answers are in {cut(result['file'], 1000)}")


def _answers(lines: list[dict[str, Any]]) -> None:
    from .output import print_table, table

    lines = [line for line in lines if None not in line["scores"]]
    differing = [line for line in lines if len(set(line["scores"])) > 1]
    if not lines:  # nothing that both answered
        return
    if not differing:
        print("No item is scored differently.")
        return
    rows = table("items scored differently", "item", "wanted", "A", "B", "A>", "B>")
    for line in differing[:LINES]:
        answers = [cut(answer or "") for answer in line["answers"]]
        scores = [f"{value:.2g}" for value in line["scores"]]
        rows.add_row(cut(line["item"], 24), cut(" or ".join(line["wanted"]), 30), *answers, *scores)
    print_table(rows)
    if len(differing) > LINES:
        print(f"{len(differing) - LINES} more; --json has them all")


def _figures(result: dict[str, Any]) -> None:
    from .output import print_table, table

    a, b = result["models"]
    rows = table(f"{cut(result['task'])}: {result['items']} items", "", "A>", "B>")
    rows.add_row("model", cut(a["name"], NAME), cut(b["name"], NAME))
    right = _column(b)
    for name, value in _column(a).items():
        if value or right[name]:  # what neither has needs no line
            rows.add_row(name, value, right[name])
    print_table(rows)


def _column(model: dict[str, Any]) -> dict[str, str]:
    """What is printed of a model, by the name of its line."""
    every = model["answered"] + sum(len(model[kind]) for kind in ("failed", "cut", "filtered"))
    score, tokens, alike = model["score"], model["tokens"], model["reliability"]
    value = "not measured" if not score else f"{score['value'] * 100:.1f}"
    if score and score["low"] is not None:
        value += f" ({score['low'] * 100:.1f} to {score['high'] * 100:.1f})"
    wordings = model["by_wording"] or []
    seconds = model["seconds"] or {}
    return {
        "requests answered": f"{model['answered']} of {every}",
        "  cut at --most tokens, left out": str(len(model["cut"]) or ""),
        "  filtered, left out": str(len(model["filtered"]) or ""),
        "  answers guessed at, none stated": str(model["guessed"] or ""),
        "score, percent": value,
        "  were the cut answers wrong": f"{100 * model['score_if_cut_is_wrong']:.1f}"
        if model["cut"]
        else "",
        "  in each wording": ", ".join("-" if m is None else f"{m * 100:.1f}" for m in wordings),
        "repeats alike, percent": optional(alike and alike * 100, ".1f", "not measured"),
        "tokens of a prompt, mean": optional(tokens["prompt"], ".1f"),
        "tokens of an answer, mean": optional(tokens["answer"], ".1f"),
        "  of these thoughts": f"{tokens['thought']:.1f}" if tokens["thought"] else "",
        "dollars a thousand requests": optional(model["dollars_per_thousand_requests"], ".3g"),
        "  price from": cut(model["price"]["source"]),
        "seconds, median": optional(seconds.get("median"), ".3g"),
        "seconds, 95th percentile": optional(seconds.get("p95"), ".3g"),
    }


def _difference(figures: dict[str, Any]) -> str:
    low, high = figures["low"] * 100, figures["high"] * 100
    text = (
        f"A minus B on the {figures['items']} items that both answered: "
        f"{figures['value'] * 100:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
    )
    if figures["interval"] == "at any time":
        return f"{text}, at every number of items (confidence sequence)"
    if figures["p_mid"] is None:
        return f"{text} (bootstrap; scores between 0 and 1, so no McNemar test)"
    resampled = f"bootstrap {figures['drawn_low'] * 100:+.1f} to {figures['drawn_high'] * 100:+.1f}"
    counts = f"{figures['only_a']} right in A alone, {figures['only_b']} in B alone"
    p = f"p = {figures['p_mid']:.3g} (exact {figures['p_exact']:.3g})"
    return f"{text}, {resampled}; {counts}: McNemar {p}"


def _unanswered(models: list[dict[str, Any]]) -> None:
    """What has no answer, by reason, with a few names: ten lines for ten thousand items."""
    for letter, model in zip("AB", models, strict=True):
        for kind in ("cut", "filtered"):
            if rows := model[kind]:
                print(f"  {kind}, {letter}: {_few([row['item'] for row in rows])}")
        reasons = Counter(cut(row["reason"], 200) for row in model["failed"])
        for reason, _ in reasons.most_common(REASONS):
            items = [r["item"] for r in model["failed"] if cut(r["reason"], 200) == reason]
            print(f"  not answered by {letter}: {_few(items)}: {reason}")
        if len(reasons) > REASONS:
            others = sum(sorted(reasons.values())[:-REASONS])
            print(f"  not answered by {letter} for other reasons: {others}; --json has them")
    if any(model["failed"] for model in models):
        print("The same command asks these again.")


def _few(items: list[str], limit: int = 3) -> str:
    names = ", ".join(cut(name, 24) for name in items[:limit])
    return names if len(items) <= limit else f"{names} and {len(items) - limit} more"
