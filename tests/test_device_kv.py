"""Rows about caches on a device: their order, what is checked before it is timed, what is said."""

import importlib.util
import json
import re
from itertools import pairwise

import pytest
from sizewise import paths
from sizewise.benchmark import kv, recording

torch = pytest.importorskip("torch")
ROOT = paths.root()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_kv", ROOT / "scripts" / "gpu_kv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bench(tmp_path, *rows):
    """A bench whose file has these rows."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row | {"device": "CPU"}) + "\n" for row in rows))
    return kv.Bench("cpu", file)


def config(**more):
    row = {"device": "CPU", "what": "attend", "method": "tq4", "context": 64, "batch": 2}
    return row | {"group": 4} | more


@pytest.mark.parametrize("small", [True, False])
def test_what_is_timed_is_checked_first_and_plain_rows_come_before_packed(script, small):
    rows = script.grid(small)
    names = [json.dumps(row, sort_keys=True) for row in rows]
    assert len(set(names)) == len(names)
    kinds = [row["what"] for row in rows]
    last_check = max(position for position, what in enumerate(kinds) if what.startswith("check"))
    assert last_check < kinds.index("attend")
    timed = {row["method"] for row in rows if row["what"] == "attend"}
    assert timed <= {row["method"] for row in rows if row["what"] == "check"}
    attends = [row for row in rows if row["what"] == "attend"]
    for before, after in pairwise(attends):
        if all(before[name] == after[name] for name in ("context", "batch", "group")):
            assert not (before["method"] in kv.PACKED and after["method"] not in kv.PACKED)


def test_the_recording_fits_half_an_hour(script):
    rows = script.grid(False)
    seconds = sum(script.cost(row, row if position else None) for position, row in enumerate(rows))
    assert seconds < 30 * 60


def test_bytes_of_a_stored_vector_are_codes_and_a_norm():
    sizes = {"tq4": 66, "tq3": 50, "tq2": 34, "bf16-flash": 256, "fp8-triton": 128}
    assert {method: kv.vector_bytes(method) for method in sizes} == sizes


@pytest.mark.parametrize("method", kv.PACKED)
def test_packed_attention_and_codes_are_those_of_float64(tmp_path, method):
    current = bench(tmp_path)
    result = kv.check(config(what="check", method=method, context=90, batch=3), current)
    assert result["error"] < kv.LIMITS["packed"]
    result = kv.check_append(config(what="check-append", method=method), current)
    assert result["error"] <= kv.CODES


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "was not checked on this device"),
        ([{"what": "check", "method": "tq4", "error": 0.5, "refused": None}], "is 0.5, over 0.001"),
        ([{"what": "check", "method": "tq4", "error": float("nan"), "refused": None}], "is nan"),
        ([{"what": "check", "method": "tq4", "error": None, "refused": "no"}], "was not checked"),
    ],
)
def test_a_method_that_was_wrong_or_not_checked_is_not_timed(tmp_path, rows, says):
    with pytest.raises(RuntimeError, match=says):
        kv.time_attention(config(), bench(tmp_path, *rows))


def test_scores_that_are_wrong_are_not_timed(tmp_path, monkeypatch):
    right = kv.scores
    monkeypatch.setattr(kv, "scores", lambda *args: right(*args) * 1.1)
    with pytest.raises(RuntimeError, match=r"its error against float64 is 0\.1"):
        kv.time_scores(config(what="logits"), bench(tmp_path))


def test_a_row_is_compared_with_the_best_of_its_shape_and_not_with_its_kind():
    shape = {"device": "CPU", "context": 64, "batch": 1, "group": 4, "refused": None}
    copy = {"what": "ceiling", "method": "copy", "device": "CPU", "rate": 1e9}
    plain = [
        shape | {"what": "attend", "method": f"bf16-{n}", "us": us}
        for n, us in (("flash", 30.0), ("cudnn", 20.0))
    ]
    packed = shape | {"what": "attend", "method": "tq4", "us": 10.0, "bytes": 5000}
    result = kv.against_best(packed, [copy, *plain])
    assert result == {"share_of_copy": 0.5, "over_fp32": None, "over_bf16": 2.0, "over_fp8": None}
    assert kv.against_best(plain[0] | {"bytes": 1}, [copy, *plain])["over_bf16"] is None
    other = [row | {"context": 65} for row in plain]
    assert kv.against_best(packed, other)["over_bf16"] is None


@pytest.mark.parametrize(
    ("error", "worn"), [(RuntimeError("no room"), False), (RuntimeError("CUDA error: 700"), True)]
)
def test_what_a_method_cannot_do_is_a_row_that_says_so(tmp_path, monkeypatch, error, worn):
    def fails(row, bench):
        raise error

    monkeypatch.setitem(kv.WHAT, "attend", fails)
    result = kv.measure(config(), "cpu", tmp_path / "rows.jsonl")
    assert result["refused"] == str(error)
    assert bool(result.get(recording.WORN)) is worn


def test_columns_are_described(tmp_path):
    text = (ROOT / "data" / "gpu_kv.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    file = tmp_path / "rows.jsonl"
    for row in (config(what="check"), config(what="check-append"), config(what="logits")):
        assert {*row, *kv.measure(row, "cpu", file)} <= described
    assert {"us", "us_low", "us_high", "us_launched", "bytes", "rate", "tokens"} <= described
