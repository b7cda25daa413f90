"""Rows from a GPU: what is checked before it is timed, what ends a row, prices, and resuming."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
import textwrap
import types

import pytest
from sizewise import paths
from sizewise.data import records

torch = pytest.importorskip("torch")
from sizewise.benchmark import kv, recording  # noqa: E402
from sizewise.benchmark.recording import Refused, Worn  # noqa: E402

ROOT = paths.root()
sys.path.insert(0, str(ROOT / "scripts"))
import gpu  # noqa: E402


def config(**fields):
    row = {"device": "CPU", "kind": "attend", "method": "tq4", "context": 64, "batch": 2}
    return row | {"group": 4} | fields


# ------------------------------------------------------------------ the rows of the script


@pytest.mark.parametrize("tiny", [False, True])
def test_what_is_timed_is_checked_before_it_and_no_row_is_asked_for_twice(tiny):
    rows = [row for part in gpu.PARTS.values() for row in part(tiny)]
    assert len({records.identity(row) for row in rows}) == len(rows)
    checked = set()
    gates = {"attend": "check", "append": "check-append", "decode": "gate"}
    for row in rows:
        name = row.get("method", row.get("format"))
        checked.add((row["kind"], name))
        if row["kind"] in gates:
            assert (gates[row["kind"]], name) in checked, row


def test_each_command_fits_nine_minutes_and_all_fit_a_lease():
    totals = []
    for part, rows in gpu.PARTS.items():
        rows = [*(gpu.ceilings(False) + gpu.calibration(False) if part == 1 else []), *rows(False)]
        totals.append(sum(map(gpu.cost, rows, [None, *rows])))
    assert all(100 < total < 9 * 60 for total in totals), totals
    assert sum(totals) < 25 * 60  # of thirty: starting the machine and the transfers come on top


def test_formats_are_compared_in_equal_modes():
    steps = [row for row in gpu.weights(False) if row["kind"] == "decode"]
    for batch in gpu.BATCHES:
        modes = {}
        for row in steps:
            if row["batch"] == batch:
                modes.setdefault(row["mode"], set()).add(row["format"])
        assert modes["graph"] == {*gpu.FORMATS} - {"int8"}
        assert modes["static"] == {"bf16", "int8"}
    pairs = [(row["model"], row["format"]) for row in steps]
    assert len(list(itertools.groupby(pairs))) == len(set(pairs))  # each model is built once


# ------------------------------------------------------------------ caches


def test_bytes_of_a_stored_vector_are_codes_and_a_norm():
    sizes = {"tq4": 66, "tq3": 50, "tq2": 34, "bf16-flash": 256, "fp8-triton": 128}
    sizes["int8-triton"] = 130
    assert {method: kv.vector_bytes(method) for method in sizes} == sizes


@pytest.mark.parametrize("method", [*kv.PACKED, "bf16-flash"])
def test_attention_and_codes_are_those_of_float64(method):
    result = kv.check(config(method=method, context=90, batch=3), "cpu", [])
    assert result["error"] < kv.LIMITS["packed" if method in kv.PACKED else "plain"]
    if method in kv.PACKED:
        assert kv.check_append(config(method=method), "cpu", [])["error"] <= kv.CODES


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"error": 0.5, "refused": None}], "is 0.5, over 0.004"),
        ([{"error": 1e-5, "refused": None}, {"error": float("nan"), "refused": None}], "is nan"),
        ([{"error": None, "refused": "no kernel"}], "does not run here"),
    ],
)
def test_a_method_that_was_wrong_is_not_timed(rows, says):
    rows = [{"kind": "check", "method": "tq4"} | row for row in rows]
    with pytest.raises(Refused, match=says):
        kv.time_attend(config(), "cpu", rows)


def test_a_method_whose_check_is_still_to_come_leaves_no_row():
    with pytest.raises(LookupError, match="still to come"):
        kv.time_attend(config(), "cpu", [{"kind": "check", "method": "tq3", "refused": None}])


def test_scores_that_are_wrong_are_not_timed(monkeypatch):
    right = kv.scores
    monkeypatch.setattr(kv, "scores", lambda *args: right(*args) * 1.1)
    with pytest.raises(Refused, match=r"its error against float64 is 0\.1"):
        kv.time_scores(config(), "cpu", [])


def test_flashinfer_gets_the_same_caches_in_pages(monkeypatch):
    class Wrapper:
        """What FlashInfer documents, by hand: HND pages (pages, heads, page size, d)."""

        def __init__(self, room, layout, use_tensor_cores):
            assert layout == "HND"

        def plan(self, indptr, indices, last, heads, kv_heads, d, page, **kinds):
            assert kinds == {"q_data_type": torch.bfloat16, "kv_data_type": torch.float8_e4m3fn}
            self.plan = indptr, indices, last, heads // kv_heads, page

        def run(self, q, pages):
            indptr, indices, last, group, page = self.plan
            out = torch.empty(q.shape, dtype=torch.float64)
            for row in range(len(q)):
                used = indices[indptr[row] : indptr[row + 1]].long()
                tokens = (len(used) - 1) * page + int(last[row])
                for head in range(q.shape[1]):
                    k, v = (
                        side[used, head // group].double().flatten(0, 1)[:tokens] for side in pages
                    )
                    scores = k @ q[row, head].double() * kv.DIM**-0.5
                    out[row, head] = torch.softmax(scores, 0) @ v
            return out

    fake = types.SimpleNamespace(BatchDecodeWithPagedKVCacheWrapper=Wrapper)
    monkeypatch.setitem(sys.modules, "flashinfer", fake)
    result = kv.check(config(method="fp8-flashinfer", context=48, batch=2), "cpu", [])
    assert result["error"] < 1e-6


# ------------------------------------------------------------------ recording


def recorded(file, measure, configs, **options):
    options = {"cost": lambda config, before: 0.0} | options
    return recording.record(configs, file, measure, **options), records.read(file)


NUMBERS = [{"device": "here", "n": n} for n in range(4)]


def test_rows_are_resumed_and_what_a_device_cannot_do_is_a_row(tmp_path, capsys):
    def measure(config):
        if config["n"] == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if config["n"] == 2:
            raise TypeError("a bug says nothing about the device")
        if config["n"] == 3:
            return {"us": 1.0, "error": float("nan")}
        return {"us": 1.0}

    file = tmp_path / "rows.jsonl"
    result, rows = recorded(file, measure, NUMBERS)
    assert result == (1, False)
    assert [row["n"] for row in rows] == [0, 1, 3]
    assert [row["refused"] for row in rows] == [None, "CUDA out of memory", "error is nan"]
    assert "TypeError" in capsys.readouterr().err
    result, resumed = recorded(file, lambda config: {"us": 2.0}, NUMBERS)
    assert result == (0, False)
    assert resumed[:3] == rows
    assert resumed[3]["n"] == 2
    assert set(resumed[0]["from"]) == set(records.PROVENANCE)


@pytest.mark.parametrize("error", [Worn("the capture broke off"), RuntimeError("CUDA error: 700")])
def test_a_worn_process_stops_after_its_row(tmp_path, error):
    def measure(config):
        raise error

    result, rows = recorded(tmp_path / "rows.jsonl", measure, NUMBERS)
    assert result == (3, True)
    assert rows[0]["refused"] == str(error)


def test_a_row_that_would_outlast_the_time_is_not_begun(tmp_path, capsys):
    cost = lambda config, before: 100.0 if config["n"] == 2 else 0.0  # noqa: E731
    end = gpu.time.monotonic() + 50
    file = tmp_path / "rows.jsonl"
    result, rows = recorded(file, lambda c: {}, NUMBERS, cost=cost, end=end)
    assert result == (2, False)
    assert [row["n"] for row in rows] == [0, 1]
    assert capsys.readouterr().err.splitlines()[-1].endswith("may take 100 s")


@pytest.mark.parametrize("how", ["time.sleep(60)", "os.kill(os.getpid(), 9)"])
def test_a_row_that_hangs_or_kills_its_process_costs_itself_alone(tmp_path, how):
    file = tmp_path / "rows.jsonl"
    code = f"""
        import os, time
        from pathlib import Path
        from sizewise.benchmark import recording

        def measure(config):
            if config["n"] == 1:
                {how}
            return {{"us": 1.0}}

        left = recording.record({NUMBERS!r}, Path({str(file)!r}), measure,
                                cost=lambda config, before: 0.0, limit=1)
        print(left)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode < 0
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.stdout.strip() == "(0, False)", second.stderr
    refused = {row["n"]: row["refused"] for row in records.read(file)}
    assert refused[1].startswith("its process died")
    assert [n for n, reason in refused.items() if reason] == [1]


# ------------------------------------------------------------------ the command


def command(folder, *options, **environment):
    """The script, run where all is missing that a bare GPU machine may lack, git too."""
    absent = ("ray", "typer", "rich", "papermill", "nbformat", "pooch", "genai_prices", "pyarrow")
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n"
    )
    path = os.pathsep.join((str(folder), str(ROOT / "book")))
    fixed = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PATH": "", "SIZEWISE_COMMIT": "0" * 40}
    call = [sys.executable, str(ROOT / "scripts" / "gpu.py"), *options]
    environment = os.environ | fixed | environment
    return subprocess.run(call, env=environment, capture_output=True, text=True)


def columns():
    text = (ROOT / "data" / "gpu.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


@pytest.mark.slow
def test_every_kind_of_row_is_rehearsed_on_a_bare_machine(tmp_path):
    pytest.importorskip("bitsandbytes")
    file = tmp_path / "gpu.jsonl"
    without = importlib.util.find_spec("flashinfer") is None  # its rows are left, and said so
    for part in (1, 2, 3):
        process = command(tmp_path, str(part), "--rehearse", "--output", str(file))
        expected = gpu.LEFT if part == 2 and without else gpu.DONE
        assert process.returncode == expected, process.stderr[-3000:]
        parts = [*(gpu.ceilings(True) + gpu.calibration(True)), *gpu.PARTS[part](True)]
        missing = records.missing(file, [{"device": "CPU", **row} for row in parts])
        assert {row["method"] for row in missing} <= ({"fp8-flashinfer"} if without else set())
    rows = records.read(file)
    kinds = {row["kind"] for row in rows}
    assert kinds == {"ceiling", "calibrate", "gate", "decode", "prefill"} | set(kv.ROWS)
    assert {name for row in rows for name in row} <= columns()
    assert all(row["from"]["commit"] == "0" * 40 for row in rows)
    for row in rows:
        if not row["refused"] and "us" in row:
            assert row["us_low"] <= row["us"] <= row["us_high"]
    gates = {row["format"]: row["refused"] for row in rows if row["kind"] == "gate"}
    assert gates == dict.fromkeys(gpu.FORMATS)
    repeated = command(tmp_path, "1", "--rehearse", "--output", str(file))
    assert "[" not in repeated.stderr  # nothing was measured again
    assert records.read(file) == rows


def test_without_a_gpu_the_command_ends_in_one_line(tmp_path):
    process = command(tmp_path, "1", CUDA_VISIBLE_DEVICES="")
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1].startswith("gpu: torch sees no GPU here")
