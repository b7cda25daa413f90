"""What `sizewise verify` catches: each way in which rows, facts and chapters go wrong."""

import json
import sys

import pytest
from sizewise import paths
from sizewise.data import records, verify
from test_records import git

DESCRIPTION = """# some.jsonl

| column | unit | meaning |
|---|---|---|
| `id` | - | hash of the configuration |
| `n` | runs | the number |
| `seed` | - | of the weights |
| `loss` | nats/token | after the last step |
| `from` | - | provenance |
"""


@pytest.fixture
def recorded(book, monkeypatch):
    """A committed book with six rows, facts, a chapter and a manifest: (its root, its file)."""
    root = book.root
    (root / "scripts").mkdir()
    (root / "scripts" / "some.py").write_text("measure\n")
    (root / "data" / "some.md").write_text(DESCRIPTION)
    (root / "data" / "facts" / "laws.yml").write_text("- {name: a, value: 3}\n")
    book.chapter("first", ("1", [{"output_type": "stream", "name": "stdout", "text": "7"}]))
    (root / ".gitignore").write_text("_build/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "all")
    monkeypatch.setattr(sys, "argv", ["scripts/some.py"])
    with records.writing(records.path("some")) as rows:
        for n in range(6):
            rows.append({"n": n, "seed": 0}, {"loss": 2.5 + n}, records.provenance(seed=0))
    assert verify.renew() != []
    return root, records.path("some")


def read_rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file, rows):
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def seal_anew(row):
    config, measured = records.parts(row)
    row["seal"] = records.seal(config, measured, row["from"])


def test_what_was_recorded_has_no_fault(recorded):
    assert verify.faults() == []
    assert verify.unchecked() is None


CHANGES = {
    "a number by one percent": (lambda r: r.update(loss=r["loss"] * 1.01), "its seal does not fit"),
    "a configuration": (lambda r: r.update(n=77), "but its configuration has"),
    "a false id": (lambda r: r.update(id="0" * 16), "its id is 0000000000000000"),
    "a seed": (lambda r: r["from"].update(seed=1), "its seed is 0, but its provenance says 1"),
    "a commit": (lambda r: r["from"].update(commit="0" * 40), "commit 000000000000 is not in this"),
    "no commit": (lambda r: r["from"].update(commit="main"), "its commit is none: main"),
    "a year long ago": (
        lambda r: r["from"].update(time="1970-01-01T00:00:00+00:00"),
        "its time 1970-01-01T00:00:00+00:00 cannot be",
    ),
    "a time before the commit": (
        lambda r: r["from"].update(time="2026-11-02T00:00:00+00:00"),
        "is before its commit",
    ),
    "a time to come": (
        lambda r: r["from"].update(time="2999-01-01T00:00:00+00:00"),
        "cannot be",
    ),
    "a time without a zone": (
        lambda r: r["from"].update(time="2026-11-30T00:00:00"),
        "has no zone",
    ),
    "uncommitted code": (lambda r: r["from"].update(dirty=True), "made by uncommitted code"),
    "another script": (
        lambda r: r["from"].update(command="python scripts/other.py"),
        "its command is no call of scripts/some.py",
    ),
    "a folder of a machine": (
        lambda r: r["from"].update(command="python scripts/some.py --out /home/you"),
        "its command is no call of scripts/some.py",
    ),
    "no machine": (lambda r: r["from"].update(machine={}), "its machine is not described"),
    "a GPU without a driver": (
        lambda r: r["from"]["machine"].update(gpu="H200"),
        "its machine is not described",
    ),
    "no versions": (lambda r: r["from"].update(versions={}), "its versions are not given"),
    "no provenance": (lambda r: r["from"].pop("machine"), "its provenance is not complete"),
    "a column more": (lambda r: r.update(gain=1), "column gain is not in data/some.md"),
    "a word for a number": (lambda r: r.update(loss="low"), "loss is 'low', which has no unit"),
    "no seal": (lambda r: r.pop("seal"), "no seal"),
    "half a seal": (lambda r: r.update(seal={"sha256": "0"}), "its seal is none"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_changed_row_is_named_with_its_line(recorded, change, sealed):
    _, file = recorded
    rows = read_rows(file)
    alter, fault = CHANGES[change]
    alter(rows[3])
    if sealed and "seal" in rows[3] and "config" in rows[3]["seal"] and change != "no provenance":
        seal_anew(rows[3])
    write(file, rows)
    faults = verify.faults()
    # A new seal does not pass the manifest, nor any other check that the change breaks.
    assert any("data/some.jsonl: not as the manifest says" in line for line in faults)
    if not sealed or change not in ("a number by one percent", "a configuration"):
        assert any(line.startswith("data/some.jsonl:4: ") and fault in line for line in faults)
    assert all(len(line.splitlines()) == 1 for line in faults)


def test_a_row_twice_and_a_row_less_are_found(recorded):
    _, file = recorded
    rows = read_rows(file)
    write(file, [*rows, rows[2]])
    assert "data/some.jsonl:7: the run of line 3 again" in verify.faults()
    write(file, rows[:2] + rows[3:])
    assert verify.faults() == ["data/some.jsonl: 5 rows, but the manifest says 6"]
    file.write_text("")
    assert "data/some.jsonl: no rows" in verify.faults()


def test_a_torn_or_foreign_line_is_found(recorded):
    _, file = recorded
    whole = file.read_text()
    file.write_text(whole[:-9])
    assert "data/some.jsonl: its last line is torn" in verify.faults()
    file.write_text("nonsense\n" + whole)
    assert "data/some.jsonl:1: not JSON" in verify.faults()


@pytest.mark.parametrize("name", ["facts/laws.yml", "claims.yml"])
def test_a_changed_fact_is_found(recorded, name):
    file = recorded[0] / "data" / name
    file.write_text(file.read_text().replace("a", "e", 1))
    assert verify.faults() == [
        f"data/{name}: not as the manifest says (make manifest, if it was meant)"
    ]
    file.unlink()
    assert verify.faults() == [f"data/{name}: in the manifest, but there is no such file"]


def test_a_new_file_and_a_changed_output_are_found(recorded):
    root, _ = recorded
    (root / "data" / "facts" / "new.csv").write_text("a,b\n")
    (root / "data" / "facts" / "shapes.json").write_text("{}\n")  # counts of a thousand layers
    chapter = root / "chapters" / "first.ipynb"
    chapter.write_text(chapter.read_text().replace('"7"', '"8"'))
    assert verify.faults() == [
        "chapters/first.ipynb: not as the manifest says (make manifest, if it was meant)",
        "data/facts/new.csv: not in the manifest",
        "data/facts/shapes.json: not in the manifest",
    ]
    changed = verify.renew()
    assert changed[:2] == ["chapters/first.ipynb: changed", "data/facts/new.csv: new"]
    assert (verify.faults(), verify.renew()) == ([], [])


def test_a_column_without_a_unit_and_a_file_without_a_script_are_found(recorded):
    root, _ = recorded
    description = root / "data" / "some.md"
    description.write_text(DESCRIPTION.replace("| runs |", "| |"))
    assert verify.faults() == [
        "data/some.jsonl: column n has no unit",
        "data/some.md: not as the manifest says (make manifest, if it was meant)",
    ]
    description.write_text(
        DESCRIPTION.replace("nats/token", "runs").replace("runs", "nats/token", 1)
    )
    assert verify.faults() == [  # two units changed places
        "data/some.md: not as the manifest says (make manifest, if it was meant)"
    ]
    description.write_text(DESCRIPTION)
    (root / "scripts" / "some.py").unlink()
    assert verify.faults() == ["data/some.jsonl: there is no scripts/some.py"]


def places(node, path=()):
    """Every place in a row, as the keys that lead to it."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


ODD = [None, True, -1, 1e308, "", "\x1b[2Jx\n", [], {}, {"a": [1]}, float("nan"), float("inf")]


@pytest.mark.parametrize("sealed", [False, True])
def test_whatever_stands_in_a_row_is_a_line_and_no_traceback(recorded, sealed, monkeypatch):
    root, file = recorded
    commits = verify._commits(root)
    monkeypatch.setattr(verify, "_commits", lambda home: commits)  # hundreds of calls of git
    rows = read_rows(file)
    missed = []
    versions = rows[3]["from"]["versions"]
    rows[3]["from"]["versions"] = {"python": versions["python"]}
    seal_anew(rows[3])
    for path in places(rows[3]):
        for value in ODD:
            damaged = json.loads(json.dumps(rows[3]))
            parent = damaged
            for key in path[:-1]:
                parent = parent[key]
            if parent[path[-1]] == value and type(parent[path[-1]]) is type(value):
                continue
            parent[path[-1]] = value
            if sealed and path[0] != "seal" and value == value and value != float("inf"):
                seal_anew(damaged)
            write(file, [*rows[:3], damaged, *rows[4:]])
            faults = verify.faults()
            assert all(line.isprintable() for line in faults)
            missed += [] if faults else [(path, value)]
    assert missed == []


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"id": ' + "9" * 5000 + "}", "7", '"x"', '{"id": NaN}', "\udcff", "\x00"],
    ids=len,
)
def test_a_line_that_is_no_row_is_named(recorded, line):
    _, file = recorded
    whole = file.read_bytes()
    file.write_bytes(line.encode("utf-8", "surrogateescape") + b"\n" + whole)
    assert any(fault.startswith("data/some.jsonl:1: not ") for fault in verify.faults())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("{rows: 6, ", "{"),
        lambda text: text.replace("{rows: 6, ", "{rows: six, "),
        lambda text: text.replace("first.ipynb: {", "first.ipynb: {rows: 5, "),
        lambda text: text + "data/none.yml: 3\n7: 8\n",
        lambda text: text.replace("first.ipynb: {", "first.ipynb: 3 #{"),
        lambda text: "- a list\n",
        lambda text: "not: [yaml",
        lambda text: "\udcff",
        lambda text: "",
    ],
)
def test_a_manifest_that_was_edited_is_a_fault(recorded, change):
    manifest = recorded[0] / "data" / "manifest.yml"
    changed = change(manifest.read_text())
    manifest.write_bytes(changed.encode("utf-8", "surrogateescape"))
    faults = verify.faults()
    assert faults
    assert all("manifest" in line for line in faults)


def test_without_the_history_commits_are_not_checked_and_a_line_reports_it(recorded, monkeypatch):
    root, file = recorded
    rows = read_rows(file)
    rows[0]["from"]["commit"] = "0" * 40
    seal_anew(rows[0])
    write(file, rows)
    verify.renew()
    assert verify.faults() == ["data/some.jsonl:1: its commit 000000000000 is not in this history"]
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    (root / ".git").rename(root.parent / "history")
    assert verify.faults() == []
    assert "commits are not checked" in verify.unchecked()


def test_the_command_prints_a_line_a_fault_and_ends_with_1(recorded, sizewise):
    _, file = recorded
    assert sizewise("verify") == (0, "rows: 6; files of facts and claims: 2; chapters: 1\n", "")
    write(file, read_rows(file)[:5])
    code, out, err = sizewise("verify")
    assert (code, out) == (1, "data/some.jsonl: 5 rows, but the manifest says 6\n")
    assert err == "sizewise: 1 fault\n"
    assert sizewise("verify", "--renew").out.startswith("data/some.jsonl: changed\n")
    assert sizewise("verify").code == 0


@pytest.mark.parametrize("stem", sorted(f.stem for f in (paths.root() / "data").glob("*.jsonl")))
def test_rows_of_this_book_fit_their_seals(stem):
    assert records.read(stem)
    assert all("seal" in row for _, row in records.numbered(records.path(stem)))
