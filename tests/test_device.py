"""Speed of a device: what is timed is the real step, it reads everything, and rows resume."""

import gc
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import textwrap
import time
import weakref
from types import SimpleNamespace

import pytest
from sizewise import catalog, counting, paths, records, roofline
from sizewise.device import (
    attention,
    built,
    ceilings,
    decode,
    energy,
    floors,
    graphs,
    int8_columns,
    kernels,
    layers,
    lean,
    recording,
    rows,
    timing,
)
from sizewise.quant import skeleton

torch = pytest.importorskip("torch")
ROOT = paths.root()
SCRIPT = ROOT / "scripts" / "gpu_weights.py"
FOUR_BITS = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"
)
QUICK = {"repeats": 3, "least": 0.001}


@pytest.fixture(scope="module")
def tiny():
    return built.build("llama-tiny", "fp32", "cpu")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def filled(one, cache, tokens):
    """Put the keys and values of ``tokens`` into a static cache, by `transformers`' own one."""
    from transformers import DynamicCache

    one.config._attn_implementation = "eager"
    own = DynamicCache(config=one.config)
    with torch.inference_mode():
        one.model(tokens, past_key_values=own, use_cache=True)
    for layer, kept in enumerate(own.layers):
        cache.keys[layer][:, :, :-1].copy_(kept.keys)
        cache.values[layer][:, :, :-1].copy_(kept.values)


# ------------------------------------------------------------------ the step that is timed


@pytest.mark.parametrize("mode", ["static", "lean"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["llama-tiny", "qwen3"])
def test_a_step_gives_the_logits_of_a_plain_pass_over_all_tokens(name, batch, mode, tmp_path):
    if name == "qwen3":  # norms of queries and keys, and heads of another width
        config = {"model_type": "qwen3", "head_dim": 16, "num_attention_heads": 6}
        config = built.COMMON | {"hidden_size": 64, "intermediate_size": 96} | config
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config | {"num_hidden_layers": 3}))
        name = str(path)
    one = built.build(name, "fp32", "cpu")
    for number, gain in enumerate(one.model.parameters()):
        if gain.ndim == 1:  # norms of many gains, so that each must be in its place
            gain.data.mul_(torch.linspace(0.5, 1.5, len(gain)) + 0.01 * number)
    step = decode.static(one, mode, batch, 17)
    tokens = torch.randint(one.config.vocab_size, (batch, 17))
    filled(one, step.cache, tokens[:, :-1])
    with torch.inference_mode():
        wanted = one.model(tokens, use_cache=False).logits[:, -1]  # still transformers' attention
    attention.use(one.config)
    step.tokens.copy_(tokens[:, -1:])
    step()
    torch.testing.assert_close(step.logits[:, -1], wanted, rtol=1e-4, atol=1e-4)
    assert step.tokens[:, 0].tolist() == wanted.argmax(-1).tolist()


@FOUR_BITS
@pytest.mark.parametrize("format", ["bf16", "nf4", "int8"])
def test_a_lean_step_gives_the_logits_of_the_static_one_in_every_format(format):
    one = built.build("llama-little", format, "cpu")
    found = []
    for mode in ("static", "lean"):
        step = decode.static(one, mode, 2, 16)  # the cache is a function of its seed
        step.tokens.copy_(torch.tensor([[3], [77]]))
        step()
        found.append(step.logits.float())
    assert (found[1] - found[0]).norm() / found[0].norm() < 0.02


def test_the_lean_layer_is_compiled_once_for_all_layers():
    from torch._dynamo import config
    from torch._dynamo.testing import CompileCounter

    one, counter = built.build("llama-little", "fp32", "cpu"), CompileCounter()
    step = decode.static(one, "lean", 2, 16)
    step()
    wanted, tokens = step.logits.clone(), torch.tensor([[5], [6]])
    torch._dynamo.reset()
    compiled = torch.compile(lean.one_layer, dynamic=False, fullgraph=True, backend=counter)
    with config.patch(disable=False):  # other modules' tests may have switched compiling off
        for run in (None, compiled, compiled):
            step.layer = run
            step.tokens.copy_(tokens)
            step()
            wanted = step.logits.clone() if run is None else wanted
            torch.testing.assert_close(step.logits, wanted, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1 < one.config.num_hidden_layers


def test_a_lean_step_makes_half_the_kernels_of_the_static_one(tiny):
    """Operations stand in for kernels here; views, which launch none, are left out."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            Count.number += not function.is_view
            return out

    counted = {}
    for mode in ("static", "lean"):
        step, Count.number = decode.static(tiny, mode, 1, 16), 0
        step()
        with Count():
            step()
        counted[mode] = Count.number
    assert counted["lean"] < 0.7 * counted["static"]


def test_a_model_of_other_parts_has_no_lean_step(tiny):
    with pytest.raises(ValueError, match="only Llama and Qwen 3"):
        lean.check(SimpleNamespace(model=tiny.model.model))


def test_what_a_compiler_lacks_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(lean.shutil, "which", lambda name: None)
    assert "gcc or clang or cc" in lean.uncompiled()
    monkeypatch.setattr(lean.shutil, "which", lambda name: "/bin/x" if name == "mine" else None)
    monkeypatch.setenv("CC", "mine")
    assert lean.uncompiled() is None
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "Triton" in lean.uncompiled()


def test_an_eager_step_in_use_holds_its_cache_once(tiny):
    eager, _ = decode.prepared(tiny, "eager", 1, 9)
    eager()
    held = [weakref.ref(keys) for keys, _ in eager.before]
    eager.in_use()
    gc.collect()
    assert not any(one() is not None for one in held)
    assert eager.cache.get_seq_length() == 9


def test_an_eager_step_gives_the_logits_of_the_static_one_and_forgets_its_token(tiny):
    eager, _ = decode.prepared(tiny, "eager", 2, 9)
    eager()
    tokens = torch.randint(tiny.config.vocab_size, (2, 1))
    eager.tokens.copy_(tokens)
    eager()
    assert eager.cache.get_seq_length() == 8
    static, _ = decode.prepared(tiny, "static", 2, 9)
    for layer, (keys, values) in enumerate(eager.before):
        static.cache.keys[layer][:, :, :-1].copy_(keys)
        static.cache.values[layer][:, :, :-1].copy_(values)
    static.tokens.copy_(tokens)
    static()
    torch.testing.assert_close(eager.logits, static.logits, rtol=1e-4, atol=1e-4)


def test_a_prompt_is_read_as_transformers_reads_it(tiny):
    tokens = torch.randint(tiny.config.vocab_size, (2, 12))
    tiny.config._attn_implementation = "eager"
    with torch.inference_mode():
        wanted = tiny.model(tokens, use_cache=False).logits
    attention.use(tiny.config)
    cache = attention.Static(tiny.config, 2, 12, torch.float32, "cpu")
    with torch.inference_mode():
        found = tiny.model(tokens, past_key_values=cache, position_ids=torch.arange(12)[None])
    torch.testing.assert_close(found.logits, wanted, rtol=1e-4, atol=1e-4)


def test_a_step_reads_every_weight_and_the_whole_cache():
    one = built.build("llama-tiny", "fp32", "cpu")
    step, _ = decode.prepared(one, "static", 1, 8)
    caches = [(f"cache {i}", one_cache) for i, one_cache in enumerate(step.cache.keys)]
    caches += [(f"values {i}", one_cache) for i, one_cache in enumerate(step.cache.values)]
    everything = dict([*one.model.named_parameters(), *caches])
    kept = {name: tensor.data[(0,) * tensor.ndim].clone() for name, tensor in everything.items()}

    def logits():
        step.tokens.zero_()
        step()
        return step.logits.clone()

    before = logits()
    assert torch.equal(logits(), before)
    for name, tensor in everything.items():
        if "embed" in name:  # tied here, so that the head reads all of it
            assert one.model.lm_head.weight is tensor
        place = (0,) * tensor.ndim
        tensor.data[place] += 1
        assert not torch.equal(logits(), before), name
        tensor.data[place] = kept[name]
    assert torch.equal(logits(), before)


def test_a_step_that_is_not_finite_is_not_recorded():
    one = built.build("llama-tiny", "fp32", "cpu")
    one.model.model.norm.weight.data[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        decode.decode(one, "static", 1, 4, **QUICK)


def test_a_mask_or_a_part_of_a_prompt_is_refused():
    q = torch.zeros(1, 4, 2, 8)
    with pytest.raises(ValueError, match="without a mask"):
        attention.attend(None, q, torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))


@pytest.mark.parametrize(
    ("mode", "batch", "context", "words"),
    [
        ("grapf", 1, 8, "did you mean 'graph'"),
        ("static", 0, 8, "batch"),
        ("eager", 1, 1, "context"),
    ],
)
def test_bad_requests_are_named(tiny, mode, batch, context, words):
    with pytest.raises(ValueError, match=words):
        decode.decode(tiny, mode, batch, context, **QUICK)


def test_a_graph_needs_a_gpu_and_says_so(tiny):
    with pytest.raises(decode.NotCaptured, match="GPU"):
        decode.prepared(tiny, "graph", 1, 8)


class Nothing:
    """A stream, a context, an event: whatever a GPU's bookkeeping asks for."""

    def __init__(self, *args, **kwargs):
        self.at = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def wait_stream(self, stream):
        return None

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        return None

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)

    def query(self):
        return False  # the device has not come to it yet


@pytest.fixture
def pretended(monkeypatch):
    """The calls that bookkeep a GPU's work, answered by the CPU, which does the work itself."""
    told = {"forbidden": False, "slept": []}
    for name in ("Stream", "stream", "graph", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", Nothing)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", told["slept"].append)
    monkeypatch.setattr(
        torch.cuda, "set_sync_debug_mode", lambda mode: told.update(forbidden=mode == "error")
    )
    return told


@pytest.fixture
def step(tiny):
    made, _ = decode.prepared(tiny, "static", 2, 8)
    made.device = "cuda"
    return made


def replaying(step, factor=1.0):
    """A graph's replay: the step's results in the tensors of its capture."""

    def replay(graph):
        kept = step.logits
        step()
        with torch.inference_mode():
            kept.copy_(factor * step.logits)
        step.logits = kept

    return replay


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
        getattr(graphs, when)(full)
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
    one = built.build("llama-tiny", "bf16", "cuda")
    found = decode.decode(one, mode, 2, 64, **QUICK)  # compares the logits itself
    assert found["step_ms"] > 0


@ON_GPU
def test_layers_and_kernels_of_a_gpu_are_seen():
    one = built.build("llama-little", "bf16", "cuda")
    found = layers.by_layer(one, "decode", 1, 64, repeats=3, least=0.001)
    assert found["unmarked"] == "graph"
    assert min(found["layers_low_ms"]) > 0
    counted = {
        mode: kernels.profiled(one, mode, 1, 64)["kernels"] for mode in ("static", "graph", "lean")
    }
    assert counted["static"] == counted["graph"] > 1.5 * counted["lean"]


# ------------------------------------------------------------------ the model


def test_a_built_model_has_the_parameters_of_its_configuration(tiny):
    assert tiny.described.total == sum(one.numel() for one in tiny.model.parameters())
    frequencies = 2 * 4 * tiny.config.head_dim // 2
    assert tiny.held == 4 * tiny.described.total + frequencies


def test_its_random_weights_are_a_function_of_the_seed():
    first, again, other = (built.build("llama-tiny", "fp32", "cpu", seed) for seed in (0, 0, 1))
    weight = first.model.model.layers[1].mlp.up_proj.weight
    assert torch.equal(weight, again.model.model.layers[1].mlp.up_proj.weight)
    assert not torch.equal(weight, other.model.model.layers[1].mlp.up_proj.weight)
    assert float(weight.std()) == pytest.approx(0.5 / 128**0.5, rel=0.05)
    assert torch.equal(first.model.model.norm.weight, torch.full((128,), 0.5))
    gains = first.model.model.layers[1].input_layernorm.weight
    assert gains.unique().tolist() == [0.5, 12.0]
    assert (gains == 12).nonzero().tolist() == [[0]]
    assert (first.model.model.embed_tokens.weight[:, 0] == 1).all()


@pytest.mark.parametrize(("width", "number"), [(128, 1), (576, 1), (4096, 4), (8192, 8)])
def test_one_channel_in_1024_is_planted_and_they_lie_apart(width, number):
    channels = skeleton.planted(width)
    assert len(channels) == number
    assert channels[-1] < width
    assert len(set(channels)) == number


@FOUR_BITS
@pytest.mark.parametrize("batch", [1, 64])
def test_the_outliers_of_a_step_are_those_that_were_planted(batch):
    one = built.build("llama-little", "int8", "cpu")
    step = decode.static(one, "static", batch, 64)
    found = int8_columns.counted(one.model, step)
    width, wide, number = 384, 1024, 6
    # Query, key, value, gate and up read a norm with one planted channel; the others none.
    assert found["outlier_columns"] == 5 * number
    assert found["outlier_share"] == 5 / (5 * width + width + wide)
    assert not any(module._forward_pre_hooks for module in one.model.modules())


@FOUR_BITS
def test_outliers_are_counted_as_bitsandbytes_takes_them_out():
    one = built.build("llama-little", "int8", "cpu")
    layer = one.model.model.layers[0].mlp.gate_proj
    x = torch.randn(5, 384, dtype=torch.float16)
    x[2, 7], x[4, 7], x[0, 300], x[1, 9] = 6.0, -9.0, -6.5, 5.99
    found = int8_columns.counted(one.model, lambda: layer(x))
    assert layer.state.idx.tolist() == [7, 300]
    assert found == {"outlier_columns": 2, "outlier_share": 2 / 384}
    with pytest.raises(ValueError, match="no layer of LLM"):
        int8_columns.counted(torch.nn.Linear(2, 2), lambda: None)


@FOUR_BITS
def test_only_int8_rows_tell_of_outliers():
    for format, kind in (("int8", "decode"), ("int8", "prefill"), ("int8-plain", "decode")):
        found = rows.measure(config(format=format, kind=kind))
        assert ("outlier_share" in found) is (format == "int8")


@FOUR_BITS
@pytest.mark.parametrize(("format", "bits"), [("nf4", 4.5), ("int8", 8.0), ("int8-plain", 8.0)])
def test_a_quantized_model_holds_what_its_format_says_and_decodes(format, bits):
    one = built.build("llama-little", format, "cpu")
    embedding = one.model.get_input_embeddings().weight.numel()
    inside = one.described.total - embedding
    assert (one.held - 2 * embedding) * 8 / inside == pytest.approx(bits, rel=0.02)
    step, _ = decode.prepared(one, "static", 2, 8)
    step()
    assert torch.isfinite(step.logits).all()
    assert step.logits.dtype == one.dtype


@FOUR_BITS
def test_int8_without_its_detour_has_no_threshold_left():
    thresholds = {
        format: {
            module.state.threshold
            for module in built.build("llama-tiny", format, "cpu").model.modules()
            if type(module).__name__ == "Linear8bitLt"
        }
        for format in ("int8", "int8-plain")
    }
    assert thresholds == {"int8": {6.0}, "int8-plain": {0.0}}


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [("llama-9b", "bf16", "unknown model"), ("llama-tiny", "nf5", "did you mean"),
     ("gpt2", "fp32", "like Llama")],
)  # fmt: skip
def test_a_model_or_format_that_is_not_there_is_named(name, format, words):
    with pytest.raises(ValueError, match=words):
        built.build(name, format, "cpu")


# ------------------------------------------------------------------ clock and meter


def test_time_a_call_is_that_of_the_call():
    took = timing.time_calls(lambda: time.sleep(0.01), "cpu", repeats=3, least=0.02)
    assert len(took.seconds) == 3
    assert took.calls >= 3
    assert took.low <= took.median <= took.high
    assert took.low >= 0.01
    assert took.joules is None


def test_fewer_than_three_repeats_show_no_spread():
    with pytest.raises(ValueError, match="at least 3"):
        timing.time_calls(lambda: None, "cpu", repeats=2)


def test_short_calls_fill_their_block():
    took = timing.time_calls(lambda: time.sleep(0.001), "cpu", repeats=3, least=0.06)
    assert took.calls >= 3 * 20  # not those that a first, slower call would suggest


def test_why_nothing_is_metered_is_said(monkeypatch):
    assert "CPU" in energy.unmetered("cpu")
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: None)
    assert "nvidia-ml-py" in energy.unmetered("cuda")
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: name)
    for counter, words in ((None, "no counter"), (int, None)):
        monkeypatch.setattr(energy, "_counter", lambda counter=counter: counter)
        told = energy.unmetered("cuda")
        assert told is words is None or words in told


def test_energy_is_the_difference_of_the_counter_and_not_given_for_short_times(monkeypatch):
    counter, clock = iter([5_000, 12_000, 20_000]), iter([0.0, 2.0, 2.5, 3.0])
    monkeypatch.setattr(energy, "_counter", lambda: lambda: next(counter))
    monkeypatch.setattr(energy.time, "monotonic", lambda: next(clock))
    meter = energy.Meter("cuda")
    assert meter.joules() == 7.0
    meter.started = 2.0
    assert meter.joules() is None
    assert energy.Meter("cpu").counter is None


# ------------------------------------------------------------------ ceilings and floors


@pytest.mark.parametrize("of", ceilings.ON_CPU)
def test_a_ceiling_counts_its_bytes_or_operations(of, monkeypatch):
    def fixed(work, device):
        work()
        return timing.Timing((0.5, 1.0, 2.0), 3, None)

    monkeypatch.setattr(timing, "time_calls", fixed)
    size = 1 << 16 if of in ceilings.MEMORY else 64
    amount = {"copy": 2 * size, "read": size}.get(of, 2 * size**3)
    found = ceilings.measure(of, size, "cpu")
    assert found == {"rate": amount, "rate_low": amount / 2, "rate_high": 2 * amount}


def test_the_precision_of_fp32_products_is_put_back():
    before = torch.get_float32_matmul_precision()
    ceilings.measure("tf32", 64, "cpu", **QUICK)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="unknown ceiling"):
        ceilings.measure("bf61", 64, "cpu")


def ceiling(of, rate, device="X"):
    return {"kind": "ceiling", "device": device, "of": of, "rate": rate}


def test_measured_ceilings_stand_in_for_a_datasheet():
    found = [ceiling("copy", 3e12), ceiling("copy", 4e12), ceiling("read", 2e12)]
    found += [ceiling("bf16", 7e14), ceiling("bf16", 6e14), ceiling("bf16", 9e15, "Y")]
    device = ceilings.as_device([*found, {"kind": "ceiling", "device": "X", "of": "fp8"}], "X")
    assert device.bandwidth == 4e12
    assert device.flops["bf16"] == 7e14
    assert device.flops["fp8"] is None
    assert ceilings.as_device(found, "Z") is None


@pytest.mark.parametrize(
    ("name", "known"),
    [("NVIDIA H200", "H200"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H100 PCIe", "H100-PCIe"),
     ("NVIDIA A100-SXM4-80GB", "A100-80GB"), ("NVIDIA GeForce RTX 4090", "RTX-4090"),
     ("NVIDIA H100 NVL", None), ("NVIDIA H200 NVL", None), ("CPU", None)],
)  # fmt: skip
def test_a_drivers_name_finds_its_datasheet_or_none(name, known):
    found = ceilings.datasheet(name)
    assert (found and found.name) == known


def device(bandwidth, rate):
    return catalog.Device("X", 1e11, bandwidth, {"bf16": rate}, None, "measured", "measured")


def test_a_floor_by_hand():
    model = counting.describe("llama-3.1-8b")
    held = 2 * model.total
    found = floors.of(
        "decode", model, "bf16", 4, 1000, held, sheet=None, measured=device(1e12, 1e15)
    )
    lookup = 128256 * 4096
    cache = 4 * 1000 * 2 * 32 * 8 * 128 * 2
    read = held - 2 * lookup + 2 * 4 * 4096 + cache
    assert found["bytes_read"] == read
    assert found["floor_ms"] == pytest.approx(1e3 * read / 1e12)  # memory bound in both phases
    assert found["floor_sheet_ms"] is None
    row = {"step_ms": 2 * found["floor_ms"], "format": "bf16"}
    compared = floors.compared(row, found, device(1e12, 1e15))
    assert compared["measured_over_floor"] == pytest.approx(2)
    assert compared["bandwidth_share"] == pytest.approx(0.5)
    rate = found["operations"] / (row["step_ms"] / 1e3)
    assert compared["matrix_share"] == pytest.approx(rate / 1e15)
    assert compared["measured_over_sheet"] is None


@pytest.mark.parametrize("format", ["bf16", "fp16", "nf4", "int8", "int8-plain"])
@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_the_floor_of_a_datasheet_is_the_rooflines(kind, format):
    model, sheet = counting.describe("llama-3.2-1b"), ceilings.datasheet("NVIDIA H200")
    found = floors.of(kind, model, format, 8, 512, model.total, sheet=sheet, measured=None)
    stored = "int8" if format == "int8-plain" else format
    compute = "int8" if stored == "int8" else "bf16"
    step = roofline.decode if kind == "decode" else roofline.prefill
    wanted = step(model, sheet, 512, 8, weights=stored, kv="bf16", compute=compute)
    assert found["floor_sheet_ms"] == pytest.approx(1e3 * wanted.seconds)
    assert found["operations"] == wanted.operations
    assert found["floor_ms"] is None
    empty = floors.compared({"step_ms": 1.0, "format": format}, found, None)
    assert empty["measured_over_floor"] is empty["bandwidth_share"] is empty["matrix_share"] is None


# ------------------------------------------------------------------ layers


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


# ------------------------------------------------------------------ kernels


@FOUR_BITS
@pytest.mark.parametrize(("format", "coded"), [("fp32", False), ("int8", True), ("nf4", True)])
def test_the_operations_of_a_step_are_counted_and_sorted(format, coded):
    one = built.build("llama-tiny", format, "cpu")
    found = kernels.profiled(one, "static", 1, 16)
    groups = (*kernels.GROUPS, kernels.REST)
    assert found["kernels"] == sum(found[f"{name}_kernels"] for name in groups)
    assert found["attention_kernels"] == one.config.num_hidden_layers
    assert found["matmul_kernels"] > 0
    assert (found["dequantize_kernels"] > 0) is coded
    if format == "fp32":
        assert found["matmul_kernels"] == 7 * one.config.num_hidden_layers + 1
        assert found["elementwise_kernels"] > found["matmul_kernels"]
    assert found["busy_ms"] + found["gap_ms"] == pytest.approx(found["span_ms"])
    assert 0 <= found["gap_ms"] < found["span_ms"]
    assert len(found["top_kernels"]) == kernels.TOP
    assert found["top_kernels"][0]["ms"] >= found["top_kernels"][-1]["ms"] > 0


def test_time_and_gaps_of_kernels_by_hand():
    seen = [
        kernels.Kernel("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 10, 30),
        kernels.Kernel("void at::native::vectorized_elementwise_kernel<4, f>", 20, 40),
        kernels.Kernel("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 50, 60),
    ]
    found = kernels.told(seen)
    assert (found["span_ms"], found["busy_ms"], found["gap_ms"]) == (0.05, 0.04, 0.01)
    assert (found["matmul_ms"], found["elementwise_ms"]) == (0.03, 0.02)
    first = {"name": seen[0].name, "ms": 0.03, "kernels": 2}
    assert found["top_kernels"][0] == first
    with pytest.raises(RuntimeError, match="saw no kernel"):
        kernels.told([])


@pytest.mark.parametrize(
    ("name", "group"),
    [("void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, cutlass::bf16>>",
      "attention"),
     ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80", "attention"),
     ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matmul"), ("ampere_sgemm_32x32", "matmul"),
     ("void gemv2T_kernel_val<int, int, __nv_bfloat16>", "matmul"),
     ("void cublasLt::splitKreduce_kernel<32, 16, int>", "matmul"),
     ("void gemm_4bit_simt<__nv_bfloat16, 1>", "matmul"),
     ("void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>", "dequantize"),
     ("void kInt8VectorQuant<__half, 1024, 1>", "dequantize"),
     ("void kdequant_mm_int32_fp16<4, 512>", "dequantize"),
     ("void at::native::reduce_kernel<512, 1, ReduceOp<float, MeanOps<float>>>", "elementwise"),
     ("void at::native::CatArrayBatchedCopy_contig<OpaqueType<2u>>", "elementwise"),
     ("Memcpy DtoD (Device -> Device)", "copy"), ("Memset (Device)", "copy"),
     ("aten::mm", "matmul"), ("aten::_int_mm", "matmul"), ("aten::mul", "elementwise"),
     ("bitsandbytes::dequantize_4bit", "dequantize")],
)  # fmt: skip
def test_kernels_are_sorted_by_their_names(name, group):
    assert kernels.group(name) == group


# ------------------------------------------------------------------ rows


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rows, "CPU_LEAST", 0.001)


def config(**more):
    return {
        "device": "CPU", "kind": "decode", "model": "llama-tiny", "format": "fp32",
        "mode": "static", "batch": 1, "context": 8, "seed": 0,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("error", "ended"),
    [(torch.OutOfMemoryError("x"), "out of memory"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
     (decode.NotCaptured("it waits"), "not captured: it waits"),
     (built.Refused("no such unit"), "refused: no such unit")],
)  # fmt: skip
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

    monkeypatch.setattr(built, "build", large)
    wanted = config(model="llama-little")
    for batch in (1, 2):
        assert rows.measure(wanted | {"batch": batch}) == {"ended": "out of memory"}
    assert len(tried) == 1
    monkeypatch.undo()
    assert rows.measure(config())["ended"] == "done"


def test_rows_that_share_a_model_build_it_once(monkeypatch):
    built_ones, real = [], built.build
    monkeypatch.setattr(built, "build", lambda *a: built_ones.append(a) or real(*a))
    for batch in (1, 2):
        assert rows.measure(config(seed=7, batch=batch))["ended"] == "done"
    assert len(built_ones) == 1


def test_the_grid_of_a_gpu_is_in_its_order_and_asks_for_what_exists(script):
    grid = script.large_grid()
    names = [records.identity(row) for row in grid]
    assert len(set(names)) == len(names)
    kinds = [row["kind"] for row in grid]
    assert set(kinds[: kinds.index("decode")]) == {"ceiling"}
    assert kinds.index("decode") == kinds.count("ceiling")
    first = grid[kinds.index("decode")]
    assert (first["model"], first["format"], first["mode"]) == (script.MAIN, "bf16", "compiled")
    profiled = kinds.count("kernels")
    assert set(kinds[-profiled:]) == {"kernels"}  # a profiler may slow what comes after it
    assert set(kinds) == set(rows.KINDS)
    models = [row["model"] for row in grid if "model" in row]
    assert models.index(script.LARGEST) > 50 > models.index(script.MAIN)
    sizes = {name: counting.describe(name).total for name in set(models)}
    assert min(sizes.values()) < 0.2e9
    assert max(sizes.values()) > 70e9
    pairs = [(row["model"], row["format"]) for row in grid[:-profiled] if "model" in row]
    changes = sum(a != b for a, b in itertools.pairwise(pairs))
    assert changes == len(set(pairs)) - 1  # each is built once
    batches = {row["batch"] for row in grid if row["kind"] == "decode"}
    assert (min(batches), max(batches)) == (1, 128)
    assert {row["mode"] for row in grid if row["kind"] == "decode"} == set(decode.MODES)


def seconds(script, grid):
    return sum(map(script.cost, grid, [None, *grid]))


def test_the_rows_of_a_gpu_take_less_than_ten_minutes_together(script):
    assert 200 < seconds(script, script.large_grid()) < 600


def test_the_wide_grid_goes_on_where_the_usual_one_ends(script):
    usual, wide = script.large_grid(), script.wide_grid()
    assert wide[: len(usual)] == usual
    names = [records.identity(row) for row in wide]
    assert len(set(names)) == len(names) > 2 * len(usual)


def test_small_ceilings_are_small_and_the_others_are_above_a_gpus_caches(script):
    for small, most in ((True, 1024), (False, 16384)):
        grid = [row for row in script.limits(small) if row["of"] not in ceilings.MEMORY]
        sizes = {row["size"] for row in grid}
        assert max(sizes) == most
        assert small or min(sizes) == 8192
        assert {row["of"] for row in grid} == set(
            ceilings.ON_CPU if small else ceilings.CEILINGS
        ) - set(ceilings.MEMORY)


def test_no_row_is_priced_above_its_limit(script):
    for row in script.wide_grid():
        assert script.cost(row, None) < script.limit(row)


def test_a_missing_package_ends_the_recording_before_it_begins(script, monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="int8, nf4, int8-plain need bitsandbytes; --formats"):
        script.ready(script.small_grid(), small=True)
    kept = script.chosen(script.small_grid(), script.arguments(["--formats", "fp32,bf16"]))
    assert kept
    script.ready(kept, small=True)


def test_a_missing_compiler_ends_the_recording_before_it_begins(script, monkeypatch):
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(lean, "uncompiled", lambda: "torch.compile needs a C compiler")
    with pytest.raises(ValueError, match="C compiler; --modes eager,static,graph,lean leaves"):
        script.ready(script.large_grid(), small=False)
    words = script.arguments(["--modes", "eager,static,graph,lean"])
    kept = script.chosen(script.large_grid(), words)
    assert len(kept) == len(script.large_grid()) - 1
    script.ready(kept, small=False)


@pytest.mark.parametrize("words", [["--models", "llama-9"], ["--kinds", "decide"]])
def test_a_choice_without_rows_is_an_error_in_one_line(script, words):
    with pytest.raises(ValueError, match="no row of"):
        script.chosen(script.large_grid(), script.arguments(words))


def columns():
    text = (ROOT / "data" / "gpu_weights.md").read_text(encoding="utf-8")
    cells = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cell[0].strip(" `"): (cell[1].strip(), cell[2].strip()) for cell in cells}


def call(file, *words, env):
    command = [sys.executable, str(SCRIPT), "--small", "--output", str(file), *words]
    kept = os.environ | env
    return subprocess.Popen(
        command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
    said = done.communicate()[0]
    assert done.returncode == 0, said
    all_rows = records.read(file)
    assert all_rows[: len(first)] == first
    wanted = script.chosen(script.small_grid(), script.arguments(list(words)))
    told = [{"device": "CPU", **row} for row in wanted]
    assert [row["id"] for row in all_rows] == [records.identity(row) for row in told]
    again = call(file, *words, env=env)
    assert "0 recorded, 0 failed, 0 left" in again.communicate()[0]
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
    assert rows.measure(config(kind="layers", step="decode")).keys() <= described.keys()
    assert rows.measure(config(kind="kernels")).keys() <= described.keys()
    found = rows.measure({"device": "CPU", "kind": "ceiling", "of": "copy", "size": 1 << 16})
    assert found.keys() <= described.keys()


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
    said = []
    with recording.Recording(measures.measure, minutes) as started:
        configs = [{"n": n, **more} for n in range(number)]
        ended = started.run(
            configs, file, cost=cost, say=said.append, limit=lambda config: limit
        )  # fmt: skip
    return ended, records.read(file), said


class TestRecording:
    def test_one_worker_makes_all_rows(self, measures, tmp_path):
        ended, found, _ = recorded(measures, tmp_path / "rows.jsonl")
        assert (ended.recorded, ended.failed, ended.left) == (4, 0, 0)
        assert len({row["pid"] for row in found}) == 1
        assert found[0]["pid"] != os.getpid()

    @pytest.mark.parametrize("how", ["dies", "fails"])
    def test_what_fails_has_no_row_and_costs_no_other(self, measures, tmp_path, how):
        ended, found, said = recorded(measures, tmp_path / "rows.jsonl", **{how: 1})
        assert [row["n"] for row in found] == [0, 2, 3]
        assert (ended.recorded, ended.failed, ended.left) == (3, 1, 1)
        assert found[0]["pid"] != found[1]["pid"] == found[2]["pid"]
        assert sum("failed: " in line for line in said) == 1

    def test_a_worn_worker_is_replaced_and_its_row_kept(self, measures, tmp_path):
        _, found, _ = recorded(measures, tmp_path / "rows.jsonl", wears=1)
        assert [row["n"] for row in found] == [0, 1, 2, 3]
        assert "worn" not in found[1]
        assert found[1]["pid"] != found[2]["pid"]

    def test_a_row_that_would_outlast_the_time_is_not_begun(self, measures, tmp_path):
        cost = lambda config, before: 100.0 if config["n"] == 2 else 0.0  # noqa: E731
        ended, found, said = recorded(measures, tmp_path / "rows.jsonl", minutes=1.5, cost=cost)
        assert [row["n"] for row in found] == [0, 1]
        assert (ended.failed, ended.left) == (0, 2)
        assert "may take 100 s" in said[-1]

    def test_a_row_that_outlasts_the_time_is_stopped(self, measures, tmp_path):
        ended, found, said = recorded(measures, tmp_path / "rows.jsonl", minutes=5 / 60, sleeps=1)
        assert (ended.failed, ended.left) == (0, 3)
        assert [row["n"] for row in found] == [0]
        assert recording.TIME_UP in said[-1]

    def test_a_row_that_hangs_has_a_row_that_says_so(self, measures, tmp_path):
        file = tmp_path / "rows.jsonl"
        ended, found, _ = recorded(measures, file, number=3, sleeps=1, limit=4)
        assert (ended.recorded, ended.failed, ended.left) == (3, 0, 0)
        assert found[1]["ended"] == "stopped: not done after 4 s"
        assert "pid" not in found[1]
        assert found[0]["pid"] != found[2]["pid"]

    def test_the_time_that_is_up_is_not_the_rows_own_limit(self, measures, tmp_path):
        file = tmp_path / "rows.jsonl"
        ended, found, said = recorded(measures, file, minutes=5 / 60, sleeps=1, limit=100)
        assert (ended.failed, ended.left) == (0, 3)
        assert [row["n"] for row in found] == [0]
        assert recording.TIME_UP in said[-1]

    def test_a_command_does_not_tell_where_a_person_keeps_files(
        self, measures, tmp_path, monkeypatch
    ):
        file = tmp_path / "my rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["scripts/x.py", "--minutes", "9", "--output", str(file)])
        _, found, _ = recorded(measures, file, number=1)
        command = "python scripts/x.py --minutes 9 --output 'my rows.jsonl'"
        assert found[0]["from"]["command"] == command

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
        from sizewise import counting, records
        from sizewise.device import recording, rows
        rows.CPU_LEAST = 0.001
        for kind in ("decode", "prefill"):
            assert rows.measure({config()!r} | {{"kind": kind}})["ended"] == "done"
        import rich
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        env=os.environ | blocked(tmp_path),
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: import of rich"), last  # all before it went well
