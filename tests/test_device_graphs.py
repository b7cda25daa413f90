"""Steps as graphs, and the time of layers: kept only if a replay is the step itself."""

import time

import pytest
from device_parts import (  # noqa: F401 - fixtures
    QUICK,
    Nothing,
    config,
    replaying,
    the_pretended,
    the_quick,
    the_step,
    the_tiny,
)
from sizewise.benchmark import cuda_graphs, decode, layers, model, profile, recording, rows, timing

torch = pytest.importorskip("torch")


def test_a_graph_is_kept_if_its_replay_gives_the_logits_of_the_step(pretended, step, monkeypatch):
    monkeypatch.setattr(Nothing, "replay", replaying(step), raising=False)
    graph = decode.Graph(step)
    assert torch.isfinite(graph.logits).all()
    took = timing.time_calls(graph, "cuda", **QUICK)
    assert 0 < took.low <= took.high
    assert pretended["forbidden"] is False


@pytest.mark.parametrize("factor", [1.2, float("nan")])
def test_a_graph_that_gives_other_logits_is_an_error(pretended, step, monkeypatch, factor):
    monkeypatch.setattr(Nothing, "replay", replaying(step, factor), raising=False)
    with pytest.raises(ValueError, match="differ"):
        decode.Graph(step)


def test_a_graph_that_does_nothing_is_an_error(pretended, step, monkeypatch):
    monkeypatch.setattr(Nothing, "replay", lambda graph: None, raising=False)
    with pytest.raises(ValueError, match="differ"):
        decode.Graph(step)


def test_a_step_that_waits_is_found_before_it_is_captured(pretended, step, tiny):
    def waits(*args):
        if pretended["forbidden"]:
            raise RuntimeError("called a synchronizing CUDA operation")

    hook = tiny.model.model.norm.register_forward_hook(waits)
    try:
        with pytest.raises(decode.NotCaptured, match="waits for the GPU") as error:
            decode.Graph(step)
    finally:
        hook.remove()
    assert error.value.worn is False
    assert pretended["forbidden"] is False


def test_a_capture_that_breaks_off_wears_the_process_out(pretended, step, monkeypatch):
    class Breaks(Nothing):
        def __exit__(self, *error):
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    monkeypatch.setattr(torch.cuda, "graph", Breaks)
    with pytest.raises(decode.NotCaptured, match="broke off") as error:
        decode.Graph(step)
    assert error.value.worn is True

    def fails(*args, **kwargs):
        raise error.value

    monkeypatch.setattr(decode, "decode", fails)
    assert rows.measure(config())[recording.WORN] is True


@pytest.mark.parametrize("when", ["without_waiting", "captured"])
def test_memory_that_runs_out_in_a_capture_is_said_as_such(pretended, monkeypatch, when):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError) as error:
        getattr(cuda_graphs, when)(full)
    worn = when == "captured"
    assert getattr(error.value, "worn", False) is worn

    def fails(*args, **kwargs):
        raise error.value

    monkeypatch.setattr(decode, "decode", fails)
    wanted = {"ended": "out of memory"} | ({recording.WORN: True} if worn else {})
    assert rows.measure(config()) == wanted


def marked(one):
    return layers.Marks("cuda", list(layers._named(one.model)))


def test_layers_of_a_gpu_are_queued_behind_a_pause(pretended, tiny):
    call = layers._call(tiny, "decode", 1, 8)
    with marked(tiny) as marks:
        spent = [marks.one(call) for _ in range(2)]
        assert marks.held > 0
    assert spent[0].keys() == spent[1].keys()
    assert len(pretended["slept"]) == 2  # one for each that counts, none for the first look
    assert min(pretended["slept"]) > 0
    assert all(one["layer 0"] > one["attention 0"] > 0 for one in spent)


def test_layers_that_began_before_they_were_queued_are_held_longer(pretended, tiny, monkeypatch):
    call = layers._call(tiny, "decode", 1, 8)
    begun = iter([False, True, True, False])  # the look, two holds too short, one long enough
    monkeypatch.setattr(Nothing, "query", lambda event: next(begun))
    with marked(tiny) as marks:
        marks.one(call)
    first, second, third = pretended["slept"]
    assert third == pytest.approx(2 * second, abs=2)
    assert second == pytest.approx(2 * first, abs=2)
    monkeypatch.setattr(Nothing, "query", lambda event: True)
    with marked(tiny) as marks, pytest.raises(RuntimeError, match="before they are queued"):
        marks.one(call)


def test_the_step_without_marks_is_replayed_where_a_graph_holds_it(pretended, step, monkeypatch):
    monkeypatch.setattr(Nothing, "replay", replaying(step), raising=False)
    found = layers._unmarked(step, "cuda", QUICK)
    assert found["unmarked"] == "graph"
    assert 0 < found["step_low_ms"] <= found["step_high_ms"]

    def waits(made):
        raise decode.NotCaptured("it waits")

    monkeypatch.setattr(layers, "Graph", waits)
    assert layers._unmarked(step, "cuda", QUICK)["unmarked"] == "static"
    assert layers._unmarked(lambda: None, "cuda", QUICK)["unmarked"] == "static"  # a prompt


def test_few_layers_are_marked_at_once():
    names = ["embedding", *(f"layer {i}" for i in range(25)), "last norm", "head"]
    parts = [(one, part) for one in names for part in ([one, "part"] if "layer" in one else [one])]
    chunks = layers._chunks([(part, None) for _, part in parts])
    assert [one for some in chunks for one in some] == [(part, None) for _, part in parts]
    sizes = [sum(name.startswith("layer ") for name, _ in some) for some in chunks]
    assert sizes == [layers.TOGETHER, layers.TOGETHER, 5]
    assert chunks[0][0][0] == "embedding"
    assert chunks[-1][-1][0] == "head"


ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@ON_GPU
@pytest.mark.parametrize("mode", ["graph", "lean"])
def test_a_graph_replays_the_step(mode):
    one = model.build("llama-tiny", "bf16", "cuda")
    found = decode.decode(one, mode, 2, 64, **QUICK)  # compares the logits itself
    assert found["step_ms"] > 0


@ON_GPU
def test_layers_and_kernels_of_a_gpu_are_seen():
    one = model.build("llama-little", "bf16", "cuda")
    found = layers.by_layer(one, "decode", 1, 64, repeats=3, least=0.001)
    assert found["unmarked"] == "graph"
    assert min(found["layers_low_ms"]) > 0
    counted = {
        mode: profile.profiled(one, mode, 1, 64)["kernels"] for mode in ("static", "graph", "lean")
    }
    assert counted["static"] == counted["graph"] > 1.5 * counted["lean"]


@pytest.mark.parametrize("step", layers.STEPS)
def test_every_layer_and_its_parts_are_timed(tiny, step):
    found = layers.by_layer(tiny, step, 2, 16, repeats=3, least=0.001)
    assert {len(found[name]) for name in found if isinstance(found[name], list)} == {2}
    for low, middle, high in zip(
        found["layers_low_ms"], found["layers_ms"], found["layers_high_ms"], strict=True
    ):
        assert 0 < low <= middle <= high
    for layer in range(2):  # each of the three is the median of a part of the layer's time
        parts = [found[f"{part}_ms"][layer] for part in layers.PARTS]
        assert min(parts) > 0
        assert max(parts) < found["layers_high_ms"][layer]
    assert min(found["embedding_ms"], found["last_norm_ms"], found["head_ms"]) > 0
    assert not any(module._forward_hooks for module in tiny.model.modules())
    around = found["embedding_ms"] + found["last_norm_ms"] + found["head_ms"]
    assert found["sum_ms"] == pytest.approx(sum(found["layers_ms"]) + around)
    assert 0 < found["step_low_ms"] <= found["step_ms"] <= found["step_high_ms"]
    assert found["unmarked"] == "static"


def test_a_slow_layer_is_found(tiny):
    slow = tiny.model.model.layers[1].mlp.register_forward_pre_hook(lambda *a: time.sleep(0.02))
    try:
        found = layers.by_layer(tiny, "decode", 1, 8, repeats=3)
    finally:
        slow.remove()
    assert found["layers_ms"][1] > 20 > found["layers_low_ms"][0]
    assert found["norm_ms"][1] < 20
