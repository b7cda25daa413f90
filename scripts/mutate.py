"""Change one thing at random, run the checks that could see it, and print what nothing saw.

    make mutate                                      # 200 changes, in a folder of its own
    python scripts/mutate.py --count 30 --kind library --seed 5

Rows, facts and stored outputs are changed as an accident or a careless hand would (a digit, a row
twice, a row less, another seed, an impossible commit); the library by the operators of Cosmic Ray
(numbers, comparisons, arithmetic, booleans). Data is held against `sizewise verify`, half of the
changed rows with a seal made anew; a module against the tests that import it
(with --thorough all of them, else the two that name it most). The changes are
made in a clone of the last commit. What was tried is kept in _build/mutate, so that an
interrupted run goes on; the exit code is 1 if something survived.
"""

import argparse
import ast
import difflib
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "_build" / "mutate"
SHARES = {"rows": 0.25, "facts": 0.1, "outputs": 0.1, "library": 0.55}
FIRST = 2  # test files that are asked first; the others only if these see nothing
PATIENCE = 3.0  # times what the tests take without a change; what takes longer hangs
FAMILIES = (  # of Cosmic Ray's operators, the likeliest slips twice
    "NumberReplacer",
    "NumberReplacer",
    "ReplaceComparisonOperator",
    "ReplaceBinaryOperator",
    "ReplaceBinaryOperator",
    "ReplaceUnaryOperator",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "AddNot",
)
# No test of ours can see what these do: they ask a GPU, or only draw.
LEFT_OUT = ("chapters/figures/", "quantization/kernels/", "benchmark/", "__main__")
Change = tuple[Path, str, str]  # (file, before, after)


# ---------------------------------------------------------------- data


def change_row(home: Path, chance: random.Random, only: str = "") -> tuple[str, Change]:
    """(what was done, the change) to one recorded row."""
    file = chance.choice(sorted((home / "data").glob("*.jsonl")))
    before = file.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    row = json.loads(lines[place])
    change = chance.choice(sorted(ROW_CHANGES))
    changed = ROW_CHANGES[change](row, chance)
    if change == "a row twice":
        lines.insert(place, lines[place])
    elif change == "a row less":
        del lines[place]
    else:
        if not changed:
            return change_row(home, chance, only)
        if chance.random() < 0.5:
            change += ", sealed anew"
            reseal(row)
        lines[place] = json.dumps(row, ensure_ascii=False) + "\n"
    return f"{file.stem}:{place + 1}: {change}", (file, before, "".join(lines))


def reseal(row: dict) -> None:
    """What somebody would do who knows how seals are made."""
    columns = [(k, v) for k, v in row.items() if k not in ("id", "from", "seal")]
    count = row["seal"]["config"]
    config, measured = dict(columns[:count]), dict(columns[count:])

    def digest(content) -> str:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    row["seal"]["sha256"] = digest([config, measured, row["from"]])


def another_number(row: dict, chance: random.Random) -> bool:
    numbers = [k for k, v in row.items() if type(v) in (int, float) and v]
    if not numbers:
        return False
    name = chance.choice(numbers)
    row[name] = round(row[name] * 1.01) + 1 if isinstance(row[name], int) else row[name] * 1.01
    return True


def another_word(row: dict, chance: random.Random) -> bool:
    texts = [k for k, v in row.items() if isinstance(v, str) and v and k != "id"]
    if not texts:
        return False
    name = chance.choice(texts)
    row[name] = row[name][::-1] if row[name] != row[name][::-1] else row[name] + "x"
    return True


def provenance(name: str, value) -> Callable:
    def change(row: dict, chance: random.Random) -> bool:
        before = row["from"][name]
        row["from"][name] = value(before) if callable(value) else value
        return row["from"][name] != before

    return change


def another_id(row: dict, chance: random.Random) -> bool:
    row["id"] = f"{chance.getrandbits(64):016x}"
    return True


def a_column_more(row: dict, chance: random.Random) -> bool:
    row["extra"] = 1
    return True


def a_column_less(row: dict, chance: random.Random) -> bool:
    row.pop(chance.choice([k for k in row if k not in ("id", "from", "seal")]))
    return True


ROW_CHANGES = {
    "a number by 1 %": another_number,
    "a number by 1 % (2)": another_number,
    "a word": another_word,
    "a row twice": lambda row, chance: True,
    "a row less": lambda row, chance: True,
    "a false id": another_id,
    "another seed": provenance("seed", lambda seed: (seed or 0) + 1),
    "commit 000...": provenance("commit", "0" * 40),
    "the year 1970": provenance("time", "1970-01-01T00:00:00+00:00"),
    "next year": provenance("time", lambda time: f"{int(time[:4]) + 1}{time[4:]}"),
    "dirty": provenance("dirty", True),
    "a column more": a_column_more,
    "a column less": a_column_less,
}


def change_fact(home: Path, chance: random.Random, only: str = "") -> tuple[str, Change]:
    """One digit of a published fact, or two units of a file of rows that change places."""
    facts = [f for f in sorted((home / "data" / "facts").iterdir()) if f.suffix != ".md"]
    units = [f for f in sorted((home / "data").glob("*.md")) if f.stem != "manifest"]
    file = chance.choice([*facts, *units])
    return (swap_units if file.suffix == ".md" else change_digit)(file, chance)


def swap_units(file: Path, chance: random.Random) -> tuple[str, Change]:
    before = file.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `.*? \| (.*?) \|", before, re.M)
    if len({*rows}) < 2:
        return change_digit(file, chance)
    first, second = chance.sample(sorted({*rows}), 2)
    after = before.replace(f"| {first} |", "| \0 |").replace(f"| {second} |", f"| {first} |")
    return f"{file.name}: {first} and {second}", (file, before, after.replace("\0", second))


def change_output(home: Path, chance: random.Random, only: str = "") -> tuple[str, Change]:
    """One digit in a stored output of a chapter."""
    file = chance.choice(sorted((home / "chapters").glob("*.ipynb")))
    before = file.read_text(encoding="utf-8")
    notebook = json.loads(before)
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", ()) if o.get("data")]
    if not outputs:
        return change_output(home, chance, only)
    data = chance.choice(outputs)["data"]
    kind = chance.choice(sorted(data))
    text = "".join(data[kind]) if isinstance(data[kind], list) else str(data[kind])
    if not re.search(r"\d", text):
        return change_output(home, chance, only)
    data[kind] = another_digit(text, chance)[1]
    after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    return f"{file.stem}: a digit of an output", (file, before, after)


def change_digit(file: Path, chance: random.Random) -> tuple[str, Change]:
    before = file.read_text(encoding="utf-8")
    place, after = another_digit(before, chance)
    line = before.count("\n", 0, place) + 1
    return f"{file.name}:{line}: a digit", (file, before, after)


def another_digit(text: str, chance: random.Random) -> tuple[int, str]:
    place = chance.choice([match.start() for match in re.finditer(r"\d", text)])
    digit = chance.choice([d for d in "0123456789" if d != text[place]])
    return place, text[:place] + digit + text[place + 1 :]


# ---------------------------------------------------------------- the library


def change_library(home: Path, chance: random.Random, only: str = "") -> tuple[str, Change]:
    """One place of one module, by an operator of Cosmic Ray."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    modules = [
        file
        for file in sorted((home / "book" / "sizewise").rglob("*.py"))
        if not any(part in str(file.relative_to(home)) for part in LEFT_OUT)
        and only in str(file.relative_to(home))
        and tests_of(home, file)
    ]
    weights = [len(file.read_text().splitlines()) for file in modules]
    while True:
        file = chance.choices(modules, weights)[0]
        before = file.read_text(encoding="utf-8")
        skipped = lines_without_code(before)
        family = chance.choice(FAMILIES)
        name = chance.choice([n for n in sorted(operator_names()) if family in n])
        operator = get_operator(name)()
        places = list(occurrences(before, operator))
        if not places:
            continue
        number = chance.randrange(len(places))
        if places[number] in skipped:
            continue
        after = mutate_code(before, operator, number)
        if after is None or after == before:
            continue
        where = f"{file.relative_to(home / 'book')}:{places[number]}"
        return f"{where}: {name.removeprefix('core/')}", (file, before, after)


def occurrences(code: str, operator) -> Iterator[int]:
    """The line of each place where an operator can change the code, in its order."""
    from cosmic_ray.ast import ast_nodes, get_ast

    for node in ast_nodes(get_ast(code)):
        for start, _ in operator.mutation_positions(node):
            yield start[0]


def lines_without_code(code: str) -> set[int]:
    """Lines of annotations, where an operator changes nothing that runs, and of decorators
    such as ``dataclass(frozen=True)``, which only hold off a slip."""
    lines = set()
    for node in ast.walk(ast.parse(code)):
        for decorator in getattr(node, "decorator_list", ()):
            lines.update(range(decorator.lineno, decorator.end_lineno + 1))
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            lines.update(range(node.annotation.lineno, node.annotation.end_lineno + 1))
        if isinstance(node, ast.FunctionDef) and node.returns:
            lines.update(range(node.returns.lineno, node.returns.end_lineno + 1))
    return lines


_tests: dict[Path, list[str]] = {}


def tests_of(home: Path, file: Path) -> list[str]:
    """The test files that import a module by its name, from the one that names it most."""
    if file not in _tests:
        package, name = file.parent.relative_to(home / "book"), file.stem
        dotted = str(package).replace("/", r"\.")
        short = dotted.split(r"\.", 1)[-1]
        patterns = [
            rf"\bfrom {dotted} import (\([^)]*|[^(\n]*)\b{name}\b",
            rf"\b{dotted}\.{name}\b",
            rf"\bfrom sizewise import (\([^)]*|[^(\n]*)\b{short}\b[\s\S]*\b{short}\.{name}\b",
        ]
        naming = {}
        for test in sorted((home / "tests").glob("test_*.py")):
            text = test.read_text(encoding="utf-8")
            if not test.name.startswith("test_site") and any(re.search(p, text) for p in patterns):
                naming[str(test.relative_to(home))] = len(re.findall(rf"\b{name}\b", text))
        _tests[file] = sorted(naming, key=naming.get, reverse=True)
    return _tests[file]


# ---------------------------------------------------------------- trying


KINDS = {
    "rows": change_row,
    "facts": change_fact,
    "outputs": change_output,
    "library": change_library,
}


_unchanged: dict[tuple[str, ...], float] = {}  # checks -> seconds that they take, if they pass


def checks_of(home: Path, file: Path, tests: slice) -> tuple[str, ...]:
    """The arguments of a Python that runs what could see a change of this file."""
    if file.suffix != ".py":
        return ("-m", "sizewise", "verify")
    tests = tests_of(home, file)[tests]
    return ("-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests)


def state(home: Path, checks: tuple[str, ...], python: str, limit: float | None = None) -> str:
    """``passed``, ``failed`` or ``hung``."""
    surroundings = os.environ | {
        "SIZEWISE_HOME": str(home),
        "PYTHONPATH": str(home / "book"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            [python, *checks], cwd=home, env=surroundings, capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return "hung"
    return "failed" if done.returncode else "passed"


def seconds_unchanged(home: Path, checks: tuple[str, ...], python: str) -> float | None:
    """How long checks take without any change; None if they fail, and so would see everything."""
    if checks not in _unchanged:
        started = time.monotonic()
        passed = state(home, checks, python) == "passed"
        _unchanged[checks] = time.monotonic() - started if passed else -1.0
    return _unchanged[checks] if _unchanged[checks] >= 0 else None


def attempt(home: Path, kind: str, seed: str, python: str, only: str, thorough: bool) -> dict:
    """Make one change, look, and take it back."""
    chance = random.Random(seed)  # noqa: S311 - a choice, no secret
    while True:
        change, (file, before, after) = KINDS[kind](home, chance, only)
        checks = checks_of(home, file, slice(FIRST))
        if (usual := seconds_unchanged(home, checks, python)) is not None:
            break
        print(f"left out: {file.relative_to(home)}: its checks fail unchanged", flush=True)
        if kind != "library":
            sys.exit("mutate: see to that and commit it first")
    started = time.monotonic()
    file.write_text(after, encoding="utf-8")
    try:
        ended = state(home, checks, python, PATIENCE * usual + 30)
        if ended == "passed" and thorough and tests_of(home, file)[FIRST:]:
            others = checks_of(home, file, slice(FIRST, None))
            if state(home, others, python) == "failed":
                ended = "failed"
    finally:
        file.write_text(before, encoding="utf-8")
    diff = ""
    if ended == "passed" and file.suffix == ".py":
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
        diff = "\n".join(list(lines)[2:])
    return {
        "kind": kind,
        "seed": seed,
        "what": change,
        "ended": ended,
        "diff": diff,
        "seconds": round(time.monotonic() - started, 1),
    }


def clone(commit: str) -> Path:
    """The last commit in a folder of its own."""
    home = WORK / f"checkout-{commit[:12]}"
    if not home.exists():
        for old in WORK.glob("checkout-*"):
            shutil.rmtree(old)
        command = ["git", "clone", "--quiet", "--shared", str(ROOT), str(home)]
        subprocess.run(command, check=True)
    subprocess.run(["git", "-C", str(home), "checkout", "--quiet", "--force", commit], check=True)
    return home


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--only", default="", help="modules whose path has this, as data/")
    parser.add_argument(
        "--thorough", action="store_true", help="ask every test that imports a module, in the end"
    )
    parser.add_argument("--seed", default="0", help="of the choice of changes")
    parser.add_argument("--python", default=sys.executable, help="runs the checks")
    parser.add_argument("--minutes", type=float, help="stop after so many, and go on next time")
    arguments = parser.parse_args()
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:  # one at a time changes the checkout
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("mutate: another one is at work in _build/mutate")
        return run(arguments, commit)


def run(arguments: argparse.Namespace, commit: str) -> int:
    """Try the changes that were not tried yet; the exit code."""
    home = clone(commit)
    log = WORK / f"{commit[:12]}.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(entry["kind"], entry["seed"]): entry for entry in entries}
    shares = {arguments.kind: 1.0} if arguments.kind else SHARES
    planned = [
        (kind, f"{arguments.seed}-{number}")
        for kind, share in shares.items()
        for number in range(round(share * arguments.count))
    ]
    started = time.monotonic()
    for place, (kind, seed) in enumerate(planned, 1):
        if (kind, seed) in done:
            continue
        if arguments.minutes and time.monotonic() - started > 60 * arguments.minutes:
            print(f"stopped after {place - 1} of {len(planned)}; the same command goes on")
            break
        entry = done[kind, seed] = attempt(
            home, kind, seed, arguments.python, arguments.only, arguments.thorough
        )
        with log.open("a") as out:
            out.write(json.dumps(entry) + "\n")
        word = "SURVIVED" if entry["ended"] == "passed" else f"caught, {entry['ended']}"
        line = f"{kind}: {entry['what']}: {word} ({entry['seconds']} s)"
        print(f"[{place}/{len(planned)}] {line}", flush=True)
    return report([done[key] for key in planned if key in done])


def report(entries: list[dict]) -> int:
    """Print the table and the survivors; 1 if there are any."""
    tried, caught = Counter(), Counter()
    for entry in entries:
        tried[entry["kind"]] += 1
        caught[entry["kind"]] += entry["ended"] != "passed"
    print(f"\n{'kind':<10}{'tried':>7}{'caught':>8}{'survived':>10}")
    for kind in tried:
        print(f"{kind:<10}{tried[kind]:>7}{caught[kind]:>8}{tried[kind] - caught[kind]:>10}")
    total = tried.total(), caught.total()
    print(f"{'all':<10}{total[0]:>7}{total[1]:>8}{total[0] - total[1]:>10}")
    for entry in entries:
        if entry["ended"] == "passed":
            print(f"\nsurvived: {entry['kind']}: {entry['what']}\n{entry['diff']}")
    return int(total[0] > total[1])


if __name__ == "__main__":
    sys.exit(main())
