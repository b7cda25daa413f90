"""Steps as graphs, and the time of layers: kept only if a replay is the step itself."""

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
from sizewise.benchmark import cuda_graphs, decode, model, recording, rows, timing

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


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["graph", "lean"])
def test_a_graph_replays_the_step(mode):
    item = model.build("llama-tiny", "bf16", "cuda")
    result = decode.decode(item, mode, 2, 64, **QUICK)  # compares the logits itself
    assert result["step_ms"] > 0
