"""Rows about caches on a device: what is timed, with which launch, and what becomes of a fault."""

import contextlib
import importlib.util
import json
import weakref
from pathlib import Path

import pytest
from sizewise import paths
from sizewise.benchmark import cuda_graphs, graph_timing, recording
from sizewise.benchmark.kv import attention, checks, inputs, methods, model
from sizewise.benchmark.kv import rows as kv_rows
from sizewise.data import records
from sizewise.quantization import kernels

torch = pytest.importorskip("torch")
ROOT = paths.root()
NOWHERE = Path("there-is-no-such-file.jsonl")
BENCH = inputs.Bench("cpu", NOWHERE)
SHAPE = {"device": "CPU", "context": 40, "batch": 2, "group": 4, "kv_heads": 8, "dim": 128}
DEFAULT = {"block": 64, "warps": 4, "stages": 3, "waves": 0, "lookup": "auto", "overlap": False}


def recorded(tmp_path, *rows):
    """A bench whose file has these rows of its device."""
    file = tmp_path / "rows.jsonl"
    told = [{"device": "CPU", "refused": None} | row for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    return inputs.Bench("cpu", file)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_kv", ROOT / "scripts" / "gpu_kv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def columns():
    text = (ROOT / "data" / "gpu_kv.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cell[0].strip(" `") for cell in cells}


# ------------------------------------------------------------------ the grid


@pytest.mark.parametrize("words", [[], ["--tune"], ["--small"], ["--small", "--tune"]])
def test_every_row_is_there_once_and_its_columns_are_described(script, words):
    rows = script.grid(script.arguments(words))
    names = [records.identity(row) for row in rows]
    assert len(set(names)) == len(names)
    assert {row["what"] for row in rows} <= kv_rows.WHAT.keys()
    assert {name for row in rows for name in row} <= columns()


def test_a_plain_row_comes_before_the_packed_ones_of_its_shape(script):
    seen = set()
    for row in script.grid(script.arguments([])):
        if row["what"] in ("attend", "logits"):
            name = (row["what"], *(row[one] for one in attention.SAME[1:]))
            assert row["method"] not in inputs.PACKED or name in seen
            if row["method"].startswith("bf16"):
                seen.add(name)


def test_what_is_timed_is_checked_first(script):
    for words in ([], ["--tune"], ["--small"], ["--small", "--tune"]):
        checked, appended = set(), set()
        for row in script.grid(script.arguments(words)):
            if row["what"] == "check":
                checked |= {row["method"]} | {(row["method"], one) for one in row}
            elif row["what"] == "check-append":
                appended.add(row["method"])
            elif row["what"] in ("attend", "profile", "tune"):
                assert row["method"] in checked
                assert {(row["method"], one) for one in ("overlap", "lookup") if one in row} <= (
                    checked
                )
            elif row["what"] == "append":
                assert row["method"] in appended


def test_checks_pass_31_bits_and_mix_codes_groups_and_head_sizes(script):
    rows = [row for row in script.grid(script.arguments([])) if row["what"] == "check"]
    wide = [row for row in rows if "capacity" in row]
    for row in wide:  # the last sequence begins beyond what 32 bits can say, in bytes and values
        values = (row["batch"] - 1) * 8 * row["capacity"] * row["dim"]
        assert values // (2 if row["method"] == "tq4" else 1) >= 2**31
    assert {row["method"] for row in wide} == {"tq4", "bf16-triton"}
    assert {row["dim"] for row in rows} == {64, 128}
    assert max(row["context"] for row in rows) > 70_000
    assert {1, 8, 16} <= {row["group"] for row in rows if row["method"] == "tq3"}
    assert sum(row.get("values", row["method"]) != row["method"] for row in rows) == 3


def test_the_whole_recording_fits_half_an_hour_in_pieces_of_ten_minutes(script):
    def left(words, done):
        rows = [row for row in script.grid(script.arguments(words)) if repr(row) not in done]
        return rows, script.estimate(rows)

    total, done = 0.0, set()
    for words, most in ((["--kinds", "check,check-append,ceiling"], 5), (["--tune"], 9), ([], 18)):
        rows, minutes = left(words, done)
        assert minutes < most
        total, done = total + minutes, done | {repr(row) for row in rows}
    assert total < 28


def test_bytes_of_a_stored_vector_are_codes_and_a_norm():
    told = [inputs.vector_bytes(m) for m in ("tq4", "tq3", "tq2", "bf16", "fp8-triton", "fp32")]
    assert told == [66, 50, 34, 256, 128, 512]
    assert inputs.vector_bytes("fp16-triton") == 256


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("tq3", "bfloat16"),
        ("fp8-triton", "bfloat16"),
        ("bf16-math", "bfloat16"),
        ("fp16-triton", "float16"),
        ("fp32-math", "float32"),
    ],
)
def test_a_query_has_the_type_of_its_cache(method, dtype):
    assert inputs.query(SHAPE | {"method": method}, BENCH).dtype == getattr(torch, dtype)


# ------------------------------------------------------------------ launches


def test_a_kernel_takes_its_fastest_recorded_launch(tmp_path):
    def tried(method, block, us, batch=1, **more):
        row = {"what": "tune", "method": method, "us": us, "batch": batch} | DEFAULT
        return row | {"block": block} | more

    bench = recorded(
        tmp_path,
        tried("tq4", 32, 9.0),
        tried("tq4", 64, 7.0),
        tried("tq4", 128, None, refused="too large"),
        tried("tq4", 16, 1.0, device="another GPU"),
        tried("bf16-triton", 128, 5.0),
        tried("bf16-triton", 64, 6.0),
        tried("fp8-triton", 256, 5.0),
        tried("tq4", 256, 50.0, 16, waves=2, overlap=True),
    )

    def launch(method, bench=bench, what="attend", **more):
        return methods.tuning({"method": method, "what": what, "batch": 1} | more, bench)

    found = {m: launch(m).block for m in ("tq4", "bf16-triton", "fp16-triton", "fp8-triton")}
    assert found == {"tq4": 64, "bf16-triton": 128, "fp16-triton": 128, "fp8-triton": 256}
    assert launch("fp32-triton").block == 64  # of as many bytes as bf16's 128
    assert launch("tq3") == launch("tq3", BENCH)  # none was tried
    assert launch("tq4", batch=64) == kernels.Tuning(block=256, waves=2, overlap=True)
    assert launch("tq4", batch=64, what="check") == kernels.Tuning()  # a check is of the default
    tile = launch("tq4", what="tune", block=256, warps=8, stages=2)
    assert tile == kernels.Tuning(block=256, warps=8, stages=2)
    assert launch("tq4", what="tune", waves=4) == kernels.Tuning(block=64, waves=4)


@pytest.mark.parametrize(
    ("rows", "launch", "words"),
    [
        ([], {}, "not checked on this device"),
        ([{"error": 5e-4}], {}, None),
        ([{"error": 5e-4}, {"error": 2e-3}], {}, "is 0.002, more than 0.001"),
        ([{"error": float("inf")}], {}, "is inf"),
        ([{"error": 1e-4, "device": "another GPU"}], {}, "not checked"),
        ([{"error": 1e-4, "method": "tq3"}], {}, "not checked"),
        ([{"refused": "no kernel"}], {}, "not timed: no kernel"),
        ([{"refused": "no room", "capacity": 9}, {"error": 1e-4}], {}, None),
        ([{"error": 1e-4}, {"error": 9.0, "overlap": True}], {}, None),  # which is not used
        ([{"error": 1e-4}, {"error": 9.0, "overlap": True}], {"overlap": True}, "is 9"),
        ([{"error": 1e-4}], {"overlap": True}, "no check with overlap"),
        ([{"error": 1e-4}, {"error": 1e-4, "lookup": "gather"}], {"lookup": "gather"}, None),
        ([{"error": 1e-4}], {"lookup": "gather"}, "no check with gather"),
    ],
)
def test_a_method_that_was_wrong_or_not_checked_is_not_timed(tmp_path, rows, launch, words):
    bench = recorded(tmp_path, *({"what": "check", "method": "tq4"} | row for row in rows))
    refusal = pytest.raises(RuntimeError, match=words) if words else contextlib.nullcontext()
    with refusal:
        checks.demand("tq4", kernels.Tuning(**launch), bench)


def test_a_row_that_was_refused_for_its_error_says_so(tmp_path):
    wrong = {"what": "check", "method": "bf16-math", "error": 0.5}
    file = recorded(tmp_path, wrong).file
    row = SHAPE | {"what": "attend", "method": "bf16-math"}
    assert "error against float64 is 0.5" in kv_rows.measure(row, "cpu", file)["refused"]


def test_one_wrong_head_of_many_is_the_error():
    truth = torch.ones(3, 32, 8, dtype=torch.float64)
    got = truth.clone()
    got[1, 5] *= 1.5
    assert checks.worst(got, truth) == pytest.approx(0.5)


# ------------------------------------------------------------------ what is measured


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("tq4", {}),
        ("tq2", {"dim": 64, "group": 16}),
        ("tq3", {"values": "tq4"}),
        ("tq4", {"capacity": 50}),
        ("bf16-math", {}),
        ("bf16-flash-folded", {}),
        ("bf16-flash", {}),
    ],
)
def test_every_method_gives_the_attention_of_float64(method, more):
    row = SHAPE | {"what": "check", "method": method, "batch": 3} | more
    # bf16 has eight bits; torch's way over codes is exact but for fp32
    assert checks.check(row, BENCH)["error"] < (1e-5 if method in inputs.PACKED else 1e-2)


def test_codes_on_a_cpu_are_those_of_float64():
    row = SHAPE | {"what": "check-append", "method": "tq3", "context": 9}
    assert checks.check_append(row, BENCH) == {
        "error": 0.0,
        "norms_differ": 0.0,
        "backend": "torch",
    }


def test_scores_of_one_copy_are_kept_until_its_next_turn(monkeypatch):
    made = []

    def scores(query, keys, method, bench):
        made.append(weakref.ref(out := torch.zeros(3)))
        return out

    def timed(calls, device):
        for call in [*calls, *calls]:
            call()
        assert [ref() is not None for ref in made] == [False, False, True, True]
        return {"us": 1.0}

    monkeypatch.setattr(methods, "scores", scores)
    monkeypatch.setattr(checks, "scores_right", lambda *given: 0.0)
    monkeypatch.setattr(graph_timing, "timed", timed)
    told = attention.logits(SHAPE | {"method": "bf16-torch"}, BENCH)
    assert told["bytes"] == 2 * 8 * 40 * (256 + 4 * 4)


@pytest.mark.parametrize("method", ["bf16-torch", "tq3"])
def test_scores_that_are_wrong_are_not_timed(monkeypatch, method):
    row = SHAPE | {"method": method}
    query = inputs.query(row, BENCH)
    keys = (inputs.packed if method == "tq3" else inputs.plain)(2, 40, method, BENCH)
    assert checks.scores_right(query, keys, method, BENCH) < checks.limit(method)
    right = methods.scores
    monkeypatch.setattr(methods, "scores", lambda *given: right(*given) * 1.02)
    with pytest.raises(RuntimeError, match="error against float64"):
        checks.scores_right(query, keys, method, BENCH)


def test_a_row_is_compared_with_the_best_of_its_shape_and_not_with_its_kind():
    ran = {"what": "attend", "refused": None, "bytes": 100, **SHAPE}
    before = [
        {"device": "CPU", "what": "ceiling", "method": "copy", "rate": 50e6, "refused": None},
        {"device": "a GPU", "what": "ceiling", "method": "copy", "rate": 1.0, "refused": None},
        ran | {"method": "bf16-a", "us": 0.5, "device": "a GPU"},
        ran | {"method": "bf16-a", "us": 8.0},
        ran | {"method": "bf16-b", "us": 6.0},
        ran | {"method": "bf16-c", "us": 1.0, "context": 41},
        ran | {"method": "fp8-triton", "refused": "no", "us": 1.0},
    ]
    told = attention.against_best(ran | {"method": "tq4", "us": 4.0}, before)
    none = dict.fromkeys(("over_fp16", "over_fp32", "over_fp8"))
    assert told == {"share_of_copy": 0.5, "over_bf16": 1.5} | none
    assert attention.against_best(before[3], before)["over_bf16"] is None
    assert attention.against_best(before[6], before) == {}
    parts = ran | {"what": "profile", "method": "tq4", "us": 4.0, "us_split": 2.5}
    assert attention.against_best(parts, before) == {
        "share_of_copy": 0.5,
        "split_share_of_copy": 0.8,
    }


def test_a_step_leaves_the_growing_cache_as_it_was():
    from transformers import DynamicCache, LlamaConfig

    cache = DynamicCache(config=LlamaConfig(num_hidden_layers=2))
    x = torch.randn(1, 2, 5, 4)
    for layer in range(2):
        cache.update(x, x, layer)
    back = model._rewind(cache, "plain-dynamic")
    held = [layer.keys.data_ptr() for layer in cache.layers]
    assert len({x.data_ptr(), *held}) == 3  # each layer has its own
    for layer in range(2):
        cache.update(x[:, :, :1], x[:, :, :1], layer)
    back()
    assert cache.get_seq_length() == 5
    assert [layer.keys.data_ptr() for layer in cache.layers] == held


# ------------------------------------------------------------------ on a pretended GPU


@pytest.fixture
def pretended(monkeypatch):
    """Graphs that remember what they captured; the clock in place of events."""
    told = {"held": 0, "captured": []}

    @contextlib.contextmanager
    def graph(into):
        told["capturing"] = True
        yield
        told["capturing"] = False

    class Graph:
        def replay(self):
            told["replays"] = told.get("replays", 0) + 1

    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(
        torch.cuda, "set_sync_debug_mode", lambda mode: told.update(strict=mode == "error")
    )
    monkeypatch.setattr(graph_timing.timing, "hold", lambda s: told.update(held=told["held"] + 1))
    monkeypatch.setattr(graph_timing.timing, "block", lambda work, device, n: work() or 0.004)
    return told


def test_a_graph_holds_rounds_of_all_calls_in_turn(pretended):
    calls = [
        lambda n=n: pretended["captured"].append(n) if pretended.get("capturing") else None
        for n in range(3)
    ]
    told = graph_timing.timed(calls, "cuda")
    # all three calls together take 4 ms, so that five rounds make 20 ms
    assert pretended["captured"] == [0, 1, 2] * 5
    assert (
        pretended["held"] == graph_timing.REPEATS
    )  # each replay is queued before the device begins
    assert told["us"] == pytest.approx(4e3 / 15)


def test_a_call_that_waits_is_found_before_it_is_captured(pretended):
    def waits():
        if pretended.get("strict"):
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(cuda_graphs.NotCaptured, match="waits for the GPU") as error:
        graph_timing.timed([waits], "cuda")
    assert not error.value.worn
    assert "capturing" not in pretended


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    ("error", "refused", "worn"),
    [
        (RuntimeError("no\n  kernel"), "no kernel", False),
        (KeyError("x"), "KeyError: 'x'", False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "CUDA out of memory. Tried", False),
        (RuntimeError("CUDA error: an illegal memory access"), "CUDA error: an illegal", True),
        (RuntimeError("Triton Error [CUDA]: misaligned"), "Triton Error [CUDA]", True),
    ],
)
def test_what_a_method_cannot_do_is_a_row_that_says_so(monkeypatch, error, refused, worn):
    def fails(config, bench):
        raise error

    monkeypatch.setitem(kv_rows.WHAT, "attend", fails)
    told = kv_rows.measure({"device": "CPU", "what": "attend"}, "cpu", NOWHERE)
    assert told["refused"].startswith(refused)
    assert told.get(recording.WORN, False) is worn


def test_without_its_gpu_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="the GPU is gone"):
        kv_rows.measure({"what": "ceiling", "method": "copy"}, "cuda", NOWHERE)
