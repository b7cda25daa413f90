"""What in the book has grown old: the catalogue, the prices, the claims whose day has come.

    python scripts/stale.py             # exit 1 and one line a fault if anything is stale
    python scripts/stale.py --accept    # record the models that the pinned price list now knows

Three questions. Is the newest model of the catalogue older than four months? Does the pinned price
list know a model, of a maker that a claim names, that the ledger has not been read against
(``data/facts/price_list.yml``)? Has the deadline of a claim passed that is still filed as open?
"""

import argparse
import sys
from datetime import UTC, date, datetime

import yaml
from sizewise import paths
from sizewise.chapters import claims
from sizewise.data import prices, records

MONTHS = 4  # a catalogue without anything newer has missed a release


def faults(today: date) -> list[str]:
    """One line for everything that is stale on ``today``."""
    return [*old_catalogue(today), *unread_models(), *passed_deadlines(today)]


def old_catalogue(today: date) -> list[str]:
    """The newest entry of the catalogue, if it is more than `MONTHS` old or has no date."""
    dates = [str(row["released"]) for row in records.facts("models") if row.get("released")]
    if not dates:
        return ["no model of the catalogue says when it was released"]
    newest = max(dates)
    year, month = map(int, newest.split("-")[:2])
    age = (today.year - year) * 12 + today.month - month
    if age <= MONTHS:
        return []
    return [f"the newest model of the catalogue is of {newest}, {age} months ago"]


def unread_models() -> list[str]:
    """Models on the pinned price list that the ledger has not been read against, by maker."""
    lines = []
    for maker in records.facts("price_list"):
        unread = sorted(set(prices.models(maker["provider"])) - set(maker["models"]))
        if unread:
            names = ", ".join(unread[:8]) + (", ..." if len(unread) > 8 else "")
            lines.append(f"{prices.list_version()} knows models of {maker['name']}: {names}")
    return lines


def passed_deadlines(today: date) -> list[str]:
    """Claims filed as open whose day has come."""
    return [
        f"claim {claim.id} was open until {claim.until}: decide it"
        for claim in claims.ledger().values()
        if claim.status == "open" and claim.until and claim.until <= today
    ]


def accept(today: date) -> None:
    """Record what the pinned price list knows now, so that only newer models count as unread."""
    file = paths.root() / "data" / "facts" / "price_list.yml"
    head = "".join(
        line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#")
    ).split("\n", 1)[1]
    rows = records.facts("price_list")
    for row in rows:
        row["models"] = sorted(prices.models(row["provider"]))
    text = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=96)
    file.write_text(f"# as_of: {today}\n{head}\n{text}", encoding="utf-8")


def main() -> int:
    """Print what is stale; the exit code says whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="record the models on the price list")
    today = datetime.now(UTC).date()
    if parser.parse_args().accept:
        accept(today)
        return 0
    lines = faults(today)
    print("\n".join(lines) or "nothing is stale")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
