"""Multiple choice: this book's scores against those of lm-evaluation-harness."""

import time
from functools import cache

MODEL = "smollm2-135m"
TASK = "arc-easy"
ITEMS = 500
FIRST = 8  # questions of the pass before the first pair, which is not timed
BATCH = 16  # choices that go through together, on both sides


def evaluate(number: int, items: int = ITEMS):
    """Score the choices of 500 questions of ARC-Easy with SmolLM2-135M in fp32, one thread each.

    The harness gets each question and choice as a request of its own, as its own task would make
    them, in batches of 16, and keeps its reuse of logits for choices of one token. Both sides
    split texts into tokens, go through the model and sum. Times are of the processor, so that
    another program on the machine slows neither. The choices must be the same but for ties.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(*_sides(), items)
    finally:
        torch.set_num_threads(before)


def warm() -> None:
    """A pair of a few questions, which is not timed."""
    evaluate(0, FIRST)


@cache
def _sides():
    """The loaded model on both sides. SystemExit where the harness is not installed."""
    from sizewise.models import pretrained

    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        raise SystemExit(
            "evaluate: needs the harness: pip install --no-deps lm-eval==0.4.13"
        ) from None
    result = pretrained.load(MODEL)
    theirs = HFLM(
        pretrained=result.model, tokenizer=result.tokenizer, batch_size=BATCH, device="cpu"
    )
    return result, theirs


def requests(items):
    """The same questions and choices as the harness takes them, one request a choice."""
    from lm_eval.api.instance import Instance

    return [
        Instance("loglikelihood", {}, (question, f" {choice}"), number)
        for item in items
        for number, (question, choice) in enumerate(
            zip(item.questions or [item.question] * len(item.choices), item.choices, strict=True)
        )
    ]


def differ(table, theirs: list[float], norm: str, within: float = 1e-3) -> int:
    """Items on which their choice differs from that of ``table`` and is no tie.

    ``theirs`` are log-likelihoods in the order of the table's rows; a tie is two choices whose
    scores differ by less than ``within`` nats in the sum.
    """
    from sizewise.evaluation import multiple_choice

    other = table.assign(nats=[-value for value in theirs])
    mine, its = (multiple_choice.choices(entry, norm) for entry in (table, other))
    count = 0
    for item in mine.index[mine != its]:
        rows = table[table["item"] == item].set_index("choice")
        two = rows.loc[[mine[item], its[item]]]
        size = two[{"per_byte": "bytes", "per_token": "tokens"}[norm]] if norm != "plain" else 1
        scores = (two.nats / size).tolist()
        least = within / (size.max() if norm != "plain" else 1)
        count += abs(scores[0] - scores[1]) > least
    return count


def _timed(result, theirs, items: int):
    from sizewise.evaluation import multiple_choice, tasks

    requested = tasks.items(TASK, items)
    begun = time.process_time()
    answers = theirs.loglikelihood(requests(requested), disable_tqdm=True)
    between = time.process_time()
    table = multiple_choice.score(result.model, result.tokenizer, requested, batch=BATCH)
    ended = time.process_time()
    apart = differ(table, [value for value, _ in answers], tasks.task(TASK).norm)
    if apart:
        raise ValueError(f"the two sides choose differently in {apart} of {items} questions")
    return between - begun, ended - between, {"items": items, "choices_differ": apart}
