"""Questions made by rule, as many as asked for: sums, facts to look up, messages to sort.

They stand for a task file of someone's own. Their answers are right by construction, and the same
seed makes the same ones. They come from few patterns, so models that stumble over one pattern
stumble over many items: what holds for these need not hold for any other task.
"""

import random
from typing import Any

from sizewise.validation import whole

from . import task

KINDS = ("sum", "find", "sort")
MOST = 3000  # beyond, patterns would run out of different questions
NAMES = (
    "Ada Brandt",
    "Tom Okoro",
    "Mia Lind",
    "Luis Ortega",
    "Jana Novak",
    "Omar Haddad",
    "Eve Martin",
    "Ken Sato",
    "Ines Duarte",
    "Paul Weber",
)
CITIES = ("Porto", "Ghent", "Turku", "Leeds", "Graz", "Nantes", "Split", "Bergen", "Pilsen")
GOODS = ("lamp", "kettle", "router", "printer", "drill", "heater", "toaster", "radio")
MONTHS = ("January", "March", "May", "July", "September", "November")
TEAMS = {
    "Billing": (
        "I was charged twice for the {} of {}.",
        "Please send me an invoice for the {} of {}.",
        "My refund for the {} of {} has not arrived in my account.",
        "The price on my card statement for the {} of {} is too high.",
    ),
    "Shipping": (
        "The parcel with my {} of {} has not come.",
        "My {} of {} was left at a wrong door.",
        "My {} of {} went to my old address.",
        "When will the {} of {} be delivered?",
    ),
    "Technical support": (
        "The {} of {} does not switch on.",
        "My {} of {} stopped working after a day.",
        "How do I reset the {} of {}?",
        "The {} of {} shows an error and beeps.",
    ),
}
FIELDS = {
    "Which city does the customer live in? Answer with the city only.": "city",
    "What is the order number? Answer with the order number only.": "order",
    "How many pieces were ordered? Answer with the number only.": "pieces",
    "Who is the customer? Answer with the full name only.": "name",
}


def items(number: int, seed: int = 0) -> list[task.Item]:
    """``number`` different questions, the kinds in turn; fewer are the first of more.

    Raises ValueError for a number that is not from 1 to 3,000.
    """
    return [task.parse(entry, at) for at, entry in enumerate(fields(number, seed), 1)]


def fields(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """The same as they stand in a task file, an object a line."""
    whole("the number of questions", number, MOST)
    rng = random.Random(seed)  # noqa: S311
    result: dict[str, dict[str, Any]] = {}
    while len(result) < number:
        kind = KINDS[len(result) % len(KINDS)]
        entry = {"sum": _sum, "find": _find, "sort": _sort}[kind](rng)
        if entry["prompt"] not in result:
            result[entry["prompt"]] = {"id": f"{kind}-{len(result) // len(KINDS)}", **entry}
    return list(result.values())


def _sum(rng: random.Random) -> dict[str, Any]:
    """Two numbers of one to three digits, added, subtracted or multiplied."""
    sign = rng.choice("+-*")
    a, b = rng.randint(12, 999), rng.randint(12, 999)
    if sign == "*":
        a, b = rng.randint(3, 99), rng.randint(3, 19)
    if sign == "-":
        a, b = max(a, b), min(a, b)
    answer = {"+": a + b, "-": a - b, "*": a * b}[sign]
    prompt = f"What is {a} {sign} {b}? Answer with the number only."
    return {"prompt": prompt, "answer": answer, "score": "number"}


def _find(rng: random.Random) -> dict[str, Any]:
    """One of four facts of a note that holds other words of the same kind."""
    facts = {
        "name": rng.choice(NAMES),
        "city": rng.choice(CITIES),
        "pieces": rng.randint(2, 9),
        "order": f"{rng.choice('BKMRTX')}{rng.choice('BKMRTX')}-{rng.randint(1000, 9999)}",
    }
    clerk = rng.choice([name for name in NAMES if name != facts["name"]])
    question, label = rng.choice(list(FIELDS.items()))
    prompt = (
        f"Note by {clerk}: 'Customer {facts['name']} from {facts['city']} ordered "
        f"{facts['pieces']} pieces ({rng.choice(GOODS)}) on {rng.randint(10, 28)} "
        f"{rng.choice(MONTHS)}, order {facts['order']}.' {question}"
    )
    rule = "number" if label == "pieces" else "exact"
    return {"prompt": prompt, "answer": facts[label], "score": rule}


def _sort(rng: random.Random) -> dict[str, Any]:
    """A message, and the team it belongs to among three in random order."""
    team = rng.choice(list(TEAMS))
    pattern = rng.choice(TEAMS[team])
    message = pattern.format(rng.choice(GOODS), f"{rng.randint(2, 28)} {rng.choice(MONTHS)}")
    choices = rng.sample(list(TEAMS), len(TEAMS))
    prompt = f"Which team should get this message? '{message}' Answer with the letter."
    return {"prompt": prompt, "choices": choices, "answer": team}
