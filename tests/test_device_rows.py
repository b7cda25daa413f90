"""Rows of a device's speed: what ends them, what they cost, and that they resume."""

import itertools
import math
import os
import subprocess
import sys
import textwrap
import time

import pytest
from device_parts import (  # noqa: F401 - fixtures
    ROOT,
    SCRIPT,
    config,
    the_quick,
    the_script,
    the_tiny,
)
from sizewise.benchmark import ceilings, decode, model, recording, rows
from sizewise.data import records

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (torch.OutOfMemoryError("x"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (decode.NotCaptured("it waits"), "not captured: it waits"),
        (model.Refused("no such unit"), "refused: no such unit"),
    ],
)
def test_what_a_device_cannot_do_is_a_row_that_says_so(monkeypatch, error, ended):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(decode, "decode", fails)
    assert rows.measure(config()) == {"ended": ended}


def test_other_errors_are_raised(monkeypatch):
    monkeypatch.setattr(decode, "decode", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rows.measure(config())
    with pytest.raises(ValueError, match="unknown kind of row"):
        rows.measure(config(kind="decide"))


def test_a_model_too_large_is_tried_once_for_all_its_rows(monkeypatch):
    tried = []

    def large(*args):
        tried.append(args)
        raise torch.OutOfMemoryError("x")

    monkeypatch.setattr(model, "build", large)
    wanted = config(model="llama-little")
    for batch in (1, 2):
        assert rows.measure(wanted | {"batch": batch}) == {"ended": "out of memory"}
    assert len(tried) == 1
    monkeypatch.undo()
    assert rows.measure(config())["ended"] == "done"


def test_rows_that_share_a_model_build_it_once(monkeypatch):
    built_ones, real = [], model.build
    monkeypatch.setattr(model, "build", lambda *a: built_ones.append(a) or real(*a))
    for batch in (1, 2):
        assert rows.measure(config(seed=7, batch=batch))["ended"] == "done"
    assert len(built_ones) == 1


def test_the_grid_of_a_gpu_is_in_its_order_and_asks_for_what_exists(script):
    grid = script.large_grid()
    names = [records.identity(row) for row in grid]
    assert len(set(names)) == len(names)
    kinds = [row["kind"] for row in grid]
    assert set(kinds) == set(rows.KINDS)
    assert kinds.index("decode") == kinds.count("ceiling")
    first = grid[kinds.index("decode")]
    assert (first["model"], first["format"], first["mode"]) == (script.MAIN, "bf16", "graph")
    pairs = [(row["model"], row["format"]) for row in grid if "model" in row]
    changes = sum(a != b for a, b in itertools.pairwise(pairs))
    assert changes <= len(set(pairs))  # each is built once, but bf16 for its long contexts
    steps = [row for row in grid if row["kind"] == "decode" and row["model"] == script.MAIN]
    for batch in (1, 128):  # formats are compared in equal modes, but for LLM.int8()
        modes = {
            row["format"]: row["mode"]
            for row in steps
            if row["batch"] == batch and row["mode"] != "eager"
        }
        assert set(modes) == set(script.FORMATS)
        assert {form for form, mode in modes.items() if mode != "graph"} == {"int8"}


def seconds(script, grid):
    return sum(map(script.cost, grid, [None, *grid]))


def test_the_rows_of_a_gpu_take_less_than_ten_minutes_together(script):
    assert 200 < seconds(script, script.large_grid()) < 600


def test_small_ceilings_are_small_and_the_others_are_above_a_gpus_caches(script):
    for small, most in ((True, 512), (False, 16384)):
        grid = [row for row in script.limits(small) if row["of"] not in ceilings.MEMORY]
        sizes = {row["size"] for row in grid}
        assert max(sizes) == most
        assert small or min(sizes) == 8192
        assert {row["of"] for row in grid} == set(
            ceilings.ON_CPU if small else ceilings.CEILINGS
        ) - set(ceilings.MEMORY)


def test_no_row_is_priced_above_its_limit(script):
    for row in script.large_grid():
        assert script.cost(row, None) < script.limit(row)


def test_a_missing_package_ends_the_recording_before_it_begins(script, monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="int8-plain need bitsandbytes, which is not installed"):
        script.ready(script.small_grid())
    retained = script.wanted(script.small_grid(), script.arguments(["--formats", "fp32,bf16"]))
    assert retained
    script.ready(retained)


@pytest.mark.parametrize("words", [["--models", "llama-9"], ["--kinds", "decide"]])
def test_a_choice_without_rows_is_an_error_in_one_line(script, words):
    with pytest.raises(ValueError, match="no row of"):
        script.wanted(script.large_grid(), script.arguments(words))


def columns():
    text = (ROOT / "data" / "gpu_weights.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cell[0].strip(" `"): (cell[1].strip(), cell[2].strip()) for cell in cells}


def call(file, *words, env):
    command = [sys.executable, str(SCRIPT), "--small", "--output", str(file), *words]
    retained = os.environ | env
    return subprocess.Popen(
        command, env=retained, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_the_script_records_resumes_after_a_kill_and_repeats_nothing(tmp_path, script):
    file, env = tmp_path / "rows.jsonl", blocked(tmp_path)
    words = ("--models", "llama-tiny", "--formats", "fp32", "--kinds", "decode,prefill")
    running = call(file, *words, env=env)
    until = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n")) and time.monotonic() < until:
        time.sleep(0.05)
    running.kill()
    running.communicate()
    first = records.read(file)
    assert first
    done = call(file, *words, env=env)
    printed = done.communicate()[0]
    assert done.returncode == 0, printed
    all_rows = records.read(file)
    assert all_rows[: len(first)] == first
    wanted = script.wanted(script.small_grid(), script.arguments(list(words)))
    messages = [{"device": "CPU", **row} for row in wanted]
    assert [row["id"] for row in all_rows] == [records.identity(row) for row in messages]
    repeated = call(file, *words, env=env)
    assert "0 recorded, 0 failed, 0 left" in repeated.communicate()[0]
    assert records.read(file) == all_rows
    described = columns()
    assert {name for row in all_rows for name in row} <= described.keys()
    assert all(unit and meaning for unit, meaning in described.values())
    for row in all_rows:
        assert row["ended"] == "done"
        assert row["step_low_ms"] <= row["step_ms"] <= row["step_high_ms"]
        assert row["from"].keys() == set(records.PROVENANCE)
        assert row["from"]["machine"]["gpu"] is None
        assert row["floor_ms"] is None  # no ceilings were asked for
        assert math.isfinite(row["tokens_per_second"])


def test_columns_of_all_kinds_of_rows_are_described(tiny):
    described = columns()
    assert {"id", "from", *config(), *rows.measure(config())} <= described.keys()
    result = rows.measure({"device": "CPU", "kind": "ceiling", "of": "copy", "size": 1 << 16})
    assert result.keys() <= described.keys()


MEASURES = """
    import os, time

    def measure(config):
        if config == {"kind": "device"}:
            return {"device": "here", "pid": os.getpid()}
        if config["n"] == config.get("dies"):
            os._exit(9)
        if config["n"] == config.get("fails"):
            raise ValueError("no")
        if config["n"] == config.get("sleeps"):
            time.sleep(60)  # far above any limit of these tests
        worn = {"worn": True} if config["n"] == config.get("wears") else {}
        return {"pid": os.getpid()} | worn

    def dumb(config):
        raise RuntimeError("no driver")
"""


@pytest.fixture
def measures(tmp_path, monkeypatch):
    (tmp_path / "measures_of_device.py").write_text(textwrap.dedent(MEASURES))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    import measures_of_device

    yield measures_of_device
    sys.modules.pop("measures_of_device", None)


def recorded(measures, file, number=4, minutes=None, cost=lambda config, before: 0.0, **more):
    limit = more.pop("limit", None)
    printed = []
    with recording.Recording(measures.measure, minutes) as started:
        configs = [{"n": n, **more} for n in range(number)]
        ended = started.run(
            configs, file, cost=cost, say=printed.append, limit=lambda config: limit
        )
    return ended, records.read(file), printed


class TestRecording:
    def test_one_worker_makes_all_rows(self, measures, tmp_path):
        ended, result, _ = recorded(measures, tmp_path / "rows.jsonl")
        assert (ended.recorded, ended.failed, ended.left) == (4, 0, 0)
        assert len({row["pid"] for row in result}) == 1
        assert result[0]["pid"] != os.getpid()

    @pytest.mark.parametrize("how", ["dies", "fails"])
    def test_what_fails_has_no_row_and_costs_no_other(self, measures, tmp_path, how):
        ended, result, printed = recorded(measures, tmp_path / "rows.jsonl", **{how: 1})
        assert [row["n"] for row in result] == [0, 2, 3]
        assert (ended.recorded, ended.failed, ended.left) == (3, 1, 1)
        assert result[0]["pid"] != result[1]["pid"] == result[2]["pid"]
        assert sum("failed: " in line for line in printed) == 1

    def test_a_worn_worker_is_replaced_and_its_row_kept(self, measures, tmp_path):
        _, result, _ = recorded(measures, tmp_path / "rows.jsonl", wears=1)
        assert [row["n"] for row in result] == [0, 1, 2, 3]
        assert "worn" not in result[1]
        assert result[1]["pid"] != result[2]["pid"]

    def test_a_row_that_would_outlast_the_time_is_not_begun(self, measures, tmp_path):
        cost = lambda config, before: 100.0 if config["n"] == 2 else 0.0  # noqa: E731
        ended, result, printed = recorded(measures, tmp_path / "rows.jsonl", minutes=1.5, cost=cost)
        assert [row["n"] for row in result] == [0, 1]
        assert (ended.failed, ended.left) == (0, 2)
        assert "may take 100 s" in printed[-1]

    def test_a_row_that_outlasts_the_time_is_stopped(self, measures, tmp_path):
        ended, result, printed = recorded(
            measures, tmp_path / "rows.jsonl", minutes=5 / 60, sleeps=1
        )
        assert (ended.failed, ended.left) == (0, 3)
        assert [row["n"] for row in result] == [0]
        assert recording.TIME_UP in printed[-1]

    def test_a_row_that_hangs_has_a_row_that_says_so(self, measures, tmp_path):
        file = tmp_path / "rows.jsonl"
        ended, result, _ = recorded(measures, file, number=3, sleeps=1, limit=4)
        assert (ended.recorded, ended.failed, ended.left) == (3, 0, 0)
        assert result[1]["ended"] == "stopped: not done after 4 s"
        assert "pid" not in result[1]
        assert result[0]["pid"] != result[2]["pid"]

    def test_the_time_that_is_up_is_not_the_rows_own_limit(self, measures, tmp_path):
        file = tmp_path / "rows.jsonl"
        ended, result, printed = recorded(measures, file, minutes=5 / 60, sleeps=1, limit=100)
        assert (ended.failed, ended.left) == (0, 3)
        assert [row["n"] for row in result] == [0]
        assert recording.TIME_UP in printed[-1]

    def test_a_command_does_not_tell_where_a_person_keeps_files(
        self, measures, tmp_path, monkeypatch
    ):
        file = tmp_path / "my rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["scripts/x.py", "--minutes", "9", "--output", str(file)])
        _, result, _ = recorded(measures, file, number=1)
        command = "python scripts/x.py --minutes 9 --output 'my rows.jsonl'"
        assert result[0]["from"]["command"] == command

    def test_without_a_device_nothing_starts(self, measures):
        with pytest.raises(ValueError, match="no driver"):
            recording.Recording(measures.dumb).__enter__()


def blocked(folder):
    """A PYTHONPATH with the library under which what a bare GPU machine may lack is missing."""
    names = ("ray", "typer", "rich", "papermill", "pooch", "genai_prices", "matplotlib")
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"
    )
    return {
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "book"))),
        "OMP_NUM_THREADS": "1",
    }


def test_neither_ray_nor_the_command_line_is_needed(tmp_path):
    code = f"""
        from sizewise.data import records
        from sizewise.benchmark import recording, rows
        rows.CPU_LEAST = 0.001
        for kind in ("decode", "prefill"):
            assert rows.measure({config()!r} | {{"kind": kind}})["ended"] == "done"
        import rich
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=os.environ | blocked(tmp_path),
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: import of rich"), last  # all before it went well
