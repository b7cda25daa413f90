"""Chapters run headless in a book of four: in place, again, with parameters, and failing."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from conftest import Book, forget
from sizewise.chapters import bounds
from sizewise.chapters import notebook as notebooks
from sizewise.chapters import run as runner

RENDEZVOUS = """
import pathlib, time
pathlib.Path("{mine}").touch()
waiting = time.monotonic() + 60
while not pathlib.Path("{other}").exists():
    assert time.monotonic() < waiting, "the other chapter never ran at the same time"
    time.sleep(0.01)
"""
OUTPUT_OF_FIRST = """
import json
cells = json.load(open("first.ipynb"))["cells"]
print("first said", cells[1]["outputs"][0]["text"])
"""


def write_chapters(book):
    """Two that wait for each other, one that fails, and one made from the others' outputs."""
    first = book.chapter(
        "first",
        ('who = "nobody"\nnumber = 2\nshare = 0.5\nfast = False\nmany = [1, 2]', "parameters"),
        "print(who, number, share, fast, many)",
        RENDEZVOUS.format(mine="first-ran", other="second-ran"),
    )
    second = book.chapter(
        "second", RENDEZVOUS.format(mine="second-ran", other="first-ran"), "1 / 3"
    )
    failing = book.chapter(
        "failing",
        ("divisor = 0", "parameters"),
        "numerator = 1\n\nnumerator / divisor",
        "print('never')",
    )
    summary = book.chapter("summary", OUTPUT_OF_FIRST, reads_chapters=True)
    return {"first": first, "second": second, "failing": failing, "summary": summary}


def run(*names, **options):
    events = []
    results = runner.run(runner.resolve(names), report=lambda *r: events.append(r), **options)
    return {result.chapter: result for result in results}, events


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The book after one run in place, with the files before it and its events."""
    with pytest.MonkeyPatch.context() as patch:
        book = Book(tmp_path_factory.mktemp("runner") / "a book")
        patch.setenv("SIZEWISE_HOME", str(book.root))
        patch.setenv("IPYTHONDIR", "unset")
        forget()
        files = write_chapters(book)
        before = {name: file.read_bytes() for name, file in files.items()}
        results, events = run(jobs=3)
        yield SimpleNamespace(book=book, files=files, before=before, results=results, events=events)
    forget()


def cells(file):
    return json.loads(file.read_text())["cells"]


# ------------------------------------------------------------------ in place


def test_chapters_run_at_the_same_time(ran):
    assert ran.results["first"].error is None  # each waits until the other has begun
    assert ran.results["second"].error is None
    assert all(ran.results[name].seconds > 0 for name in ("first", "second"))


def test_outputs_are_in_the_chapters(ran):
    first = cells(ran.files["first"])
    assert first[1]["outputs"][0]["text"] == ["nobody 2 0.5 False [1, 2]\n"]
    assert cells(ran.files["second"])[1]["outputs"][0]["data"]["text/plain"] == [
        "0.3333333333333333"
    ]
    assert [cell["execution_count"] for cell in first] == [1, 2, 3]


def test_results_come_in_reading_order(ran):
    assert list(ran.results) == ["first", "second", "failing", "summary"]
    assert ran.results["first"].output == ran.files["first"]


def test_a_chapter_made_from_the_others_runs_after_them(ran):
    text = cells(ran.files["summary"])[0]["outputs"][0]["text"]
    assert text == ["first said ['nobody 2 0.5 False [1, 2]\\n']\n"]


def test_nothing_that_differs_from_run_to_run_is_stored(ran):
    for name in ("first", "second", "summary"):
        notebook = json.loads(ran.files[name].read_text())
        metadata = notebooks.KEPT_METADATA
        more = {"sizewise": {"reads-chapters": True}} if name == "summary" else {}
        assert notebook["metadata"] == metadata | more
        assert all(cell["metadata"].keys() <= {"tags"} for cell in notebook["cells"])
        text = ran.files[name].read_text()
        assert str(ran.book.root) not in text
        assert "papermill" not in text
        assert text.endswith("}\n")
        nbformat.validate(notebook)


def test_a_failed_chapter_keeps_its_notebook_and_stops_no_other(ran):
    assert ran.files["failing"].read_bytes() == ran.before["failing"]
    failed = ran.results["failing"]
    assert failed.error == ("failing: cell 2, line 3: ZeroDivisionError: division by zero")
    assert failed.output == ran.book.root / "_build" / "failed" / "failing.ipynb"
    text = failed.output.read_text()
    assert "ZeroDivisionError" in text
    assert ran.results["summary"].error is None


def test_progress_is_reported_from_start_to_end(ran):
    for name, end in (("first", "done"), ("failing", "failed"), ("summary", "done")):
        steps = [(state, share) for chapter, state, share in ran.events if chapter == name]
        assert ("running", 0.0) in steps
        assert (end, 1.0) in steps
        shares = [share for state, share in steps if state == "running"]
        assert shares == sorted(shares)
        assert len(shares) >= 2


def test_no_half_written_file_is_left(ran):
    names = {file.name for file in (ran.book.root / "chapters").iterdir()}
    assert {name for name in names if not name.endswith("-ran")} == {
        "first.ipynb",
        "second.ipynb",
        "failing.ipynb",
        "summary.ipynb",
    }
    assert list((ran.book.root / "_build" / "running").iterdir()) == []


def test_what_was_printed_in_pieces_is_stored_whole(tmp_path):
    pieces = [("stdout", "a"), ("stdout", "\n"), ("stderr", "b"), ("stdout", "c"), (None, None)]
    outputs = [
        nbformat.v4.new_output("stream", name=name, text=text)
        if name
        else nbformat.v4.new_output("display_data", {"text/plain": "shown"})
        for name, text in [*pieces, ("stdout", "d"), ("stdout", "e")]
    ]
    cell = nbformat.v4.new_code_cell("x", id="one", outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebooks.write(notebook, tmp_path / "some.ipynb")
    stored = cells(tmp_path / "some.ipynb")[0]["outputs"]
    assert ["".join(o.get("text", "shown")) for o in stored] == ["a\n", "b", "c", "shown", "de"]


# ------------------------------------------------------------------ again


def test_what_is_unchanged_is_left_alone_and_what_failed_is_tried_again(ran):
    results, events = run(jobs=2)
    skipped = {name for name, result in results.items() if result.skipped}
    assert skipped == {"first", "second", "summary"}
    assert results["failing"].error == ran.results["failing"].error
    assert ("first", "unchanged", 1.0) in events
    assert not any(chapter != "failing" and state == "running" for chapter, state, _ in events)


def test_running_again_gives_the_same_bytes(ran):
    stored = {name: file.read_bytes() for name, file in ran.files.items()}
    times = {name: file.stat().st_mtime_ns for name, file in ran.files.items()}
    results, _ = run("second", "first", force=True)
    assert not any(result.error or result.skipped for result in results.values())
    assert {name: file.read_bytes() for name, file in ran.files.items()} == stored
    assert {name: file.stat().st_mtime_ns for name, file in ran.files.items()} == times


@pytest.mark.parametrize(
    ("file", "renewed"),
    [
        ("chapters/first.ipynb", {"first", "summary"}),
        ("chapters/summary.ipynb", {"summary"}),
        ("book/sizewise/module.py", {"first", "second", "summary"}),
        ("book/sizewise/new/module.py", {"first", "second", "summary"}),
        ("data/claims.yml", {"first", "second", "summary"}),
        ("data/facts/new.yml", {"first", "second", "summary"}),
        ("data/rows.jsonl", {"first", "second", "summary"}),
        ("requirements.txt", {"first", "second", "summary"}),
        ("README.md", set()),
        ("scripts/some.py", set()),
    ],
)
def test_a_chapter_is_run_again_when_what_it_follows_from_has_changed(ran, file, renewed):
    done = ("first", "second", "summary")

    def stale():
        state = notebooks.State()
        return {name for name in done if not state.fresh(name, ran.files[name])}

    changed = ran.book.root / file
    before = changed.read_bytes() if changed.exists() else None
    assert stale() == set()
    try:
        changed.parent.mkdir(parents=True, exist_ok=True)
        changed.write_bytes((before or b"new") + b"\n")
        assert stale() == renewed
    finally:
        changed.write_bytes(before) if before is not None else changed.unlink()
    assert stale() == set()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"first": 3}'])
def test_a_broken_state_means_that_nothing_is_known(ran, content):
    file = ran.book.root / "_build" / "chapters.json"
    before = file.read_text()
    file.write_text(content)
    try:
        assert not notebooks.State().fresh("first", ran.files["first"])
    finally:
        file.write_text(before)


# ------------------------------------------------------------------ parameters


def test_values_are_used_and_never_written_into_the_chapters(ran, tmp_path):
    stored = {name: file.read_bytes() for name, file in ran.files.items()}
    values = {"who": 'it\'s "you"', "number": 7, "share": 3, "fast": True, "many": ["x"]}
    results, _ = run("first", output=tmp_path / "new" / "folder", values=values)
    output = tmp_path / "new" / "folder" / "first.ipynb"
    assert results["first"].error is None
    assert results["first"].output == output
    injected = [c for c in cells(output) if "injected-parameters" in c["metadata"].get("tags", ())]
    assert len(injected) == 1
    assert cells(output)[2]["outputs"][0]["text"] == ["it's \"you\" 7 3 True ['x']\n"]
    assert {name: file.read_bytes() for name, file in ran.files.items()} == stored


def test_a_failure_is_at_the_cell_of_the_chapter_even_where_one_was_injected(ran, tmp_path):
    results, _ = run("failing", output=tmp_path, values={"divisor": 0.0})
    assert results["failing"].error.startswith("failing: cell 2, line 3: ZeroDivisionError")
    assert not (tmp_path / "failing.ipynb").exists()


def test_defaults_are_read_from_the_chapter(ran):
    assert notebooks.parameters(ran.files["first"]) == {
        "who": "nobody",
        "number": 2,
        "share": 0.5,
        "fast": False,
        "many": [1, 2],
    }
    assert notebooks.parameters(ran.files["second"]) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"whom": "x"}, r"^first: unknown parameter 'whom'; did you mean 'who'\?$"),
        ({"number": "two"}, r"^first: number is int \(2\), not 'two'$"),
        ({"number": 2.5}, r"^first: number is int \(2\), not 2.5$"),
        ({"number": True}, r"^first: number is int \(2\), not True$"),
        ({"fast": 1}, r"^first: fast is bool \(False\), not 1$"),
        ({"who": 3}, r"^first: who is str \('nobody'\), not 3$"),
        ({"who": None}, r"^first: who is str \('nobody'\), not None$"),
        ({"many": 1}, r"^first: many is list \(\[1, 2\]\), not 1$"),
    ],
)
def test_a_parameter_of_another_name_or_type_is_refused(ran, values, words):
    with pytest.raises(ValueError, match=words):
        bounds.check(runner.resolve(["first"]), values)


@pytest.mark.parametrize("values", [{"share": 1}, {"share": 1e-3}, {"many": []}, {"number": -1}])
def test_a_parameter_of_the_same_kind_is_taken(ran, values):
    bounds.check(runner.resolve(["first"]), values)


def test_a_chapter_without_parameters_takes_none(ran):
    with pytest.raises(ValueError, match=r"^second: unknown parameter 'who'"):
        bounds.check(runner.resolve(["second"]), {"who": "x"})


# ------------------------------------------------------------------ which chapters


def test_they_are_named_by_stem_or_file_and_come_in_reading_order(ran):
    assert list(runner.resolve([])) == ["first", "second", "failing", "summary"]
    named = runner.resolve(["second.ipynb", "chapters/first.ipynb", "first"])
    assert named == {name: ran.files[name] for name in ("first", "second")}


def test_an_unknown_one_comes_with_the_nearest(ran):
    with pytest.raises(ValueError, match=r"^unknown chapter 'frist'; did you mean 'first'\?$"):
        runner.resolve(["frist"])


def test_one_without_a_file_is_named(book):
    file = book.chapter("first", "1")
    file.unlink()
    with pytest.raises(ValueError, match=r"^first: in _toc.yml, but there is no .*ipynb$"):
        runner.resolve([])


def test_an_output_folder_that_cannot_be_made_is_named(book):
    book.chapter("first", "1")
    with pytest.raises(ValueError, match=r"^/dev/null/x: cannot be written to"):
        run(output=type(book.root)("/dev/null/x"))


def test_no_chapter_is_no_work(book):
    assert run() == ({}, [])


# ------------------------------------------------------------------ chapters that cannot run


def test_a_kernel_that_dies_is_reported_in_one_line(book):
    file = book.chapter("dies", "import os\nos._exit(3)")
    before = file.read_bytes()
    results, _ = run()
    assert results["dies"].error.startswith("dies: DeadKernelError: ")
    assert len(results["dies"].error.splitlines()) == 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"cells": []}', "\udcff"])
def test_a_file_that_is_no_notebook_is_named(book, content):
    file = book.chapter("first", "1")
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"first\.ipynb: no notebook") as caught:
        run()
    assert len(str(caught.value).splitlines()) == 1


def test_kernels_do_not_read_the_profile_of_the_person_who_runs_them(ran):
    assert os.environ["IPYTHONDIR"] == str(ran.book.root / "_build" / "ipython")


# ------------------------------------------------------------------ kernels forked from one process


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_forked_kernels_have_no_state_in_common_and_die_alone(book):
    book.chapter("dies", "import math\nmath.pi = 3\nimport os\nos._exit(3)")
    book.chapter("changes", "import math\nmath.pi, math.new = 3, 1")
    alone = book.chapter(
        "alone",
        "import math, os, multiprocessing",
        "print(round(math.pi, 2), hasattr(math, 'new'), 'torch' in __import__('sys').modules)",
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(abs, [-1]))",
    )
    results, _ = run(jobs=1)
    assert results["dies"].error.startswith("dies: DeadKernelError: ")
    assert results["changes"].error is None
    outputs = [cell["outputs"][0]["text"] for cell in cells(alone)[1:]]
    assert outputs == [["3.14 False True\n"], ["[1]\n"]]


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
def test_a_runner_that_is_killed_leaves_no_kernel(book):
    for name in ("first", "second"):
        text = f"import os, pathlib, time\npathlib.Path('{name}').write_text(str(os.getpid()))"
        book.chapter(name, f"{text}\ntime.sleep(300)")
    runner = subprocess.Popen([sys.executable, "-m", "sizewise", "run", "--jobs", "2"])
    files = [book.root / "chapters" / name for name in ("first", "second")]
    wait_for(lambda: all(file.is_file() and file.read_text() for file in files), 120)
    kernels = [int(file.read_text()) for file in files]
    runner.kill()
    runner.wait()
    wait_for(lambda: not any(psutil.pid_exists(kernel) for kernel in kernels), 30)


def wait_for(happened, seconds):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)
