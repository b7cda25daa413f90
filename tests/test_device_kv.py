"""Rows about caches on a device: what is timed, with which launch, and what becomes of a fault."""

import contextlib
import importlib.util
import json
import weakref
from pathlib import Path

import pytest
from sizewise import paths, records
from sizewise.device import (
    graphs,
    kv_append,
    kv_attention,
    kv_inputs,
    kv_methods,
    kv_model,
    kv_rows,
    recording,
    replays,
)

torch = pytest.importorskip("torch")
ROOT = paths.root()
NOWHERE = Path("there-is-no-such-file.jsonl")
BENCH = kv_inputs.Bench("cpu", NOWHERE)
SHAPE = {"context": 40, "batch": 2, "group": 4, "kv_heads": 8, "dim": 128}


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


@pytest.mark.parametrize("words", [[], ["--tune"], ["--small"]])
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
            name = (row["what"], *(row[one] for one in kv_attention.SAME))
            assert row["method"] not in kv_inputs.PACKED or name in seen
            if row["method"].startswith("bf16"):
                seen.add(name)


def test_bytes_of_a_stored_vector_are_codes_and_a_norm():
    told = [kv_inputs.vector_bytes(m) for m in ("tq4", "tq3", "tq2", "bf16", "fp8-triton", "fp32")]
    assert told == [66, 50, 34, 256, 128, 512]


# ------------------------------------------------------------------ launches


def test_a_kernel_takes_its_fastest_recorded_launch(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [
        {"what": "tune", "method": method, "block": block, "warps": 8, "stages": 2, "us": us,
         "refused": why}
        for method, block, us, why in (
            ("tq4", 32, 9.0, None), ("tq4", 64, 7.0, None), ("tq4", 128, None, "too large"),
            ("bf16-triton", 128, 5.0, None), ("bf16-triton", 64, 6.0, None),
        )
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = kv_inputs.Bench("cpu", file)

    def block(method, **more):
        return kv_methods.tuning({"method": method} | more, bench).block

    assert [block(m) for m in ("tq4", "bf16-triton", "fp8-triton")] == [64, 128, 128]
    assert block("fp32-triton") == 64  # of as many bytes as bf16's 128
    assert block("tq3") == kv_methods.tuning({"method": "tq3"}, BENCH).block  # none was tried
    assert block("tq4", block=256, warps=4, stages=2) == 256


# ------------------------------------------------------------------ what is measured


@pytest.mark.parametrize("method", ["tq4", "tq2", "bf16-math", "bf16-flash-folded", "bf16-flash"])
def test_every_method_gives_the_attention_of_float64(method):
    row = SHAPE | {"method": method, "batch": 3}
    if method in kv_inputs.PACKED:
        assert kv_append.check(row, BENCH)["error"] < 1e-5
        return
    from sizewise.quant.kernels import reference

    query = kv_inputs.query(row, BENCH)
    k, v = (kv_inputs.plain(3, 40, method, BENCH) for _ in range(2))
    lengths = torch.full((3,), 40, dtype=torch.int32)
    truth = reference.over(query, k, v, lengths, 128**-0.5)
    got = kv_methods.attend(query, k, v, lengths, method, None, BENCH)
    assert float((got.double() - truth).norm() / truth.norm()) < 1e-2  # bf16 has eight bits


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

    monkeypatch.setattr(kv_methods, "scores", scores)
    monkeypatch.setattr(replays, "timed", timed)
    told = kv_attention.logits(SHAPE | {"method": "bf16-torch"}, BENCH)
    assert told["bytes"] == 2 * 8 * 40 * (256 + 4 * 4)


def test_a_row_is_compared_with_the_best_of_its_shape_and_not_with_its_kind():
    ran = {"what": "attend", "refused": None, "bytes": 100, **SHAPE}
    before = [
        {"what": "ceiling", "method": "copy", "rate": 50e6, "refused": None},
        ran | {"method": "bf16-a", "us": 8.0}, ran | {"method": "bf16-b", "us": 6.0},
        ran | {"method": "bf16-c", "us": 1.0, "context": 41},
        ran | {"method": "fp8-triton", "refused": "no", "us": 1.0},
    ]  # fmt: skip
    told = kv_attention.against_best(ran | {"method": "tq4", "us": 4.0}, before)
    assert told == {"share_of_copy": 0.5, "over_bf16": 1.5, "over_fp32": None, "over_fp8": None}
    assert kv_attention.against_best(before[1], before)["over_bf16"] is None
    assert kv_attention.against_best(before[4], before) == {}


def test_a_step_leaves_the_growing_cache_as_it_was():
    from transformers import DynamicCache, LlamaConfig

    cache = DynamicCache(config=LlamaConfig(num_hidden_layers=2))
    x = torch.randn(1, 2, 5, 4)
    for layer in range(2):
        cache.update(x, x, layer)
    back = kv_model._rewind(cache, "plain-dynamic")
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
    monkeypatch.setattr(replays.timing, "hold", lambda s: told.update(held=told["held"] + 1))
    monkeypatch.setattr(replays.timing, "block", lambda work, device, n: work() or 0.004)
    return told


def test_a_graph_holds_rounds_of_all_calls_in_turn(pretended):
    calls = [
        lambda n=n: pretended["captured"].append(n) if pretended.get("capturing") else None
        for n in range(3)
    ]
    told = replays.timed(calls, "cuda")
    # all three calls together take 4 ms, so that five rounds make 20 ms
    assert pretended["captured"] == [0, 1, 2] * 5
    assert pretended["held"] == replays.REPEATS  # each replay is queued before the device begins
    assert told["us"] == pytest.approx(4e3 / 15)


def test_a_call_that_waits_is_found_before_it_is_captured(pretended):
    def waits():
        if pretended.get("strict"):
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(graphs.NotCaptured, match="waits for the GPU") as error:
        replays.timed([waits], "cuda")
    assert not error.value.worn
    assert "capturing" not in pretended


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    ("error", "refused", "worn"),
    [(RuntimeError("no\n  kernel"), "no kernel", False),
     (KeyError("x"), "KeyError: 'x'", False),
     (torch.OutOfMemoryError("CUDA out of memory. Tried"), "CUDA out of memory. Tried", False),
     (RuntimeError("CUDA error: an illegal memory access"), "CUDA error: an illegal", True),
     (RuntimeError("Triton Error [CUDA]: misaligned"), "Triton Error [CUDA]", True)],
)  # fmt: skip
def test_what_a_method_cannot_do_is_a_row_that_says_so(monkeypatch, error, refused, worn):
    def fails(config, bench):
        raise error

    monkeypatch.setitem(kv_rows.WHAT, "attend", fails)
    told = kv_rows.measure({"what": "attend"}, "cpu", NOWHERE)
    assert told["refused"].startswith(refused)
    assert told.get(recording.WORN, False) is worn


def test_without_its_gpu_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="the GPU is gone"):
        kv_rows.measure({"what": "ceiling", "method": "copy"}, "cuda", NOWHERE)
