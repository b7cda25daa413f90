"""The step that is timed: the model's own logits, every weight read, the whole cache, the clock."""

import json
import time

import pytest
from sizewise.models import config as configs
from sizewise.models import parameters, random_weights
from sizewise.quantization.weights import codecs

torch = pytest.importorskip("torch")
from sizewise.benchmark import ceilings, recording, steps, timing, weights  # noqa: E402
from sizewise.benchmark.recording import Refused, Worn  # noqa: E402


@pytest.fixture(scope="module")
def tiny():
    return weights.build("tiny", "fp32", "cpu")


def filled(built, cache, tokens):
    """Put the keys and values of ``tokens`` into a static cache, by `transformers`' own one."""
    from transformers import DynamicCache

    built.config._attn_implementation = "eager"
    reference = DynamicCache(config=built.config)
    with torch.inference_mode():
        built(tokens, past_key_values=reference, use_cache=True)
    for layer, stored in enumerate(reference.layers):
        cache.keys[layer][:, :, :-1].copy_(stored.keys)
        cache.values[layer][:, :, :-1].copy_(stored.values)


# ------------------------------------------------------------------ the step


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["tiny", "qwen3"])
def test_a_step_gives_the_logits_of_a_plain_pass_over_all_tokens(name, batch, tmp_path):
    if name == "qwen3":  # norms of queries and keys, and heads of another width
        config = {"model_type": "qwen3", "head_dim": 16, "num_attention_heads": 6}
        config = weights.TINY | {"hidden_size": 64, "intermediate_size": 96} | config
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config | {"num_hidden_layers": 3}))
        name = str(path)
    built = weights.build(name, "fp32", "cpu")
    for number, gain in enumerate(built.parameters()):
        if gain.ndim == 1:  # norms of many gains, so that each must be in its place
            gain.data.mul_(torch.linspace(0.5, 1.5, len(gain)) + 0.01 * number)
    step = steps.Step(built, batch, 17)
    tokens = torch.randint(built.config.vocab_size, (batch, 17))
    filled(built, step.cache, tokens[:, :-1])
    with torch.inference_mode():
        expected = built(tokens, use_cache=False).logits[:, -1]  # transformers' own attention
    built.config._attn_implementation = steps.ATTENTION
    step.tokens.copy_(tokens[:, -1:])
    step()
    torch.testing.assert_close(step.logits[:, -1], expected, rtol=1e-4, atol=1e-4)
    assert step.tokens[:, 0].tolist() == expected.argmax(-1).tolist()


def test_a_prompt_is_read_as_transformers_reads_it(tiny):
    step = steps.Step(tiny, 2, 12, tokens=12)
    tiny.config._attn_implementation = "eager"
    with torch.inference_mode():
        expected = tiny(step.tokens, use_cache=False).logits[:, -1:]
    tiny.config._attn_implementation = steps.ATTENTION
    step()
    torch.testing.assert_close(step.logits, expected, rtol=1e-4, atol=1e-4)


def test_a_step_reads_every_weight_and_the_whole_cache():
    built = weights.build("tiny", "fp32", "cpu")
    step = steps.Step(built, 1, 8)
    everything = dict(built.named_parameters())
    everything |= {f"keys {n}": keys for n, keys in enumerate(step.cache.keys)}
    everything |= {f"values {n}": values for n, values in enumerate(step.cache.values)}

    def logits():
        step.tokens.zero_()
        step()
        return step.logits.clone()

    before = logits()
    assert torch.equal(logits(), before)
    for name, tensor in everything.items():
        position = (0,) * tensor.ndim
        retained = tensor.data[position].clone()
        tensor.data[position] += 1
        assert not torch.equal(logits(), before), name
        tensor.data[position] = retained


def test_a_step_that_is_not_finite_is_not_recorded():
    built = weights.build("tiny", "fp32", "cpu")
    built.model.norm.weight.data[0] = float("inf")
    with pytest.raises(Refused, match="not finite"):
        steps.measure(built, "decode", "static", 1, 4)


def test_a_mask_or_a_part_of_a_prompt_is_refused():
    q = torch.zeros(1, 4, 2, 8)
    with pytest.raises(ValueError, match="without a mask"):
        steps.attend(None, q, torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))


# ------------------------------------------------------------------ graphs


@pytest.fixture
def pretended(monkeypatch, tiny):
    """A step, and the calls that bookkeep a GPU's work answered by the CPU, which does it."""

    class Nothing:
        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def wait_stream(self, stream):
            return None

    for name in ("Stream", "stream", "graph", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    step = steps.Step(tiny, 2, 8)
    return step, Nothing


@pytest.mark.parametrize("factor", [1.0, 1.2, float("nan"), None])
def test_a_graph_is_timed_only_if_its_replay_gives_the_logits_of_the_step(
    pretended, monkeypatch, factor
):
    step, nothing = pretended

    def replay(graph):
        captured = step.logits
        if factor is not None:  # None: a graph that does nothing
            step.plain()
            captured.copy_(factor * step.logits)
            step.logits = captured

    monkeypatch.setattr(nothing, "replay", replay, raising=False)
    if factor == 1.0:
        step.prepare("cuda")
        assert torch.isfinite(step.logits).all()
    else:
        with pytest.raises(Refused, match="differ"):
            step.prepare("cuda")


def test_a_step_that_waits_is_found_before_it_is_captured(pretended, monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits():
        if modes[-1] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(Refused, match="waits for the GPU"):
        timing.capture(waits)
    assert modes == ["error", "default"]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), torch.OutOfMemoryError("full")])
def test_a_capture_that_breaks_off_wears_the_process_out(pretended, monkeypatch, error):
    class Breaks(pretended[1]):
        def __exit__(self, *raised):
            raise error

    monkeypatch.setattr(torch.cuda, "graph", Breaks)
    with pytest.raises(Worn, match="broke off"):
        timing.capture(lambda: None)


def test_a_graph_needs_a_gpu(tiny):
    with pytest.raises(Refused, match="GPU"):
        steps.Step(tiny, 1, 8, mode="graph")


# ------------------------------------------------------------------ formats


def test_a_built_model_has_the_parameters_of_its_configuration_and_random_weights(tiny):
    total = parameters.describe(configs.Spec("tiny", weights.TINY, "tiny")).total
    assert total == sum(item.numel() for item in tiny.parameters())
    weight = tiny.model.layers[1].mlp.up_proj.weight
    assert float(weight.std()) == pytest.approx(0.5 / 128**0.5, rel=0.05)
    reseeded = weights.build("tiny", "fp32", "cpu", seed=1)
    assert not torch.equal(weight, reseeded.model.layers[1].mlp.up_proj.weight)
    gains = tiny.model.layers[1].input_layernorm.weight
    assert (gains == random_weights.PLANTED_GAIN).nonzero().tolist() == [[0]]


@pytest.mark.parametrize("format", ["bf16", "nf4", "fp4", "int8", "int8-plain"])
def test_a_gate_passes_for_the_format_and_fails_for_a_wrong_product(format):
    pytest.importorskip("bitsandbytes")
    limit = weights.ERRORS.get(format, weights.ERROR)
    assert weights.error(format, 5, 256, "cpu") <= limit
    row = {"kind": "gate", "format": format, "refused": None}
    recording.demand([row | {"error": limit}], limit, format=format)
    for error in (2 * limit, float("nan")):
        with pytest.raises(Refused, match="not timed: its error"):
            recording.demand([row | {"error": limit}, row | {"error": error}], limit, kind="gate")
    with pytest.raises(LookupError):
        recording.demand([row], limit, format="other")


def test_int8_without_its_detour_has_no_threshold_left():
    pytest.importorskip("bitsandbytes")
    for format, threshold in (("int8", 6.0), ("int8-plain", 0.0)):
        modules = weights.build("tiny", format, "cpu").modules()
        thresholds = {m.state.threshold for m in modules if type(m).__name__ == "Linear8bitLt"}
        assert thresholds == {threshold}


@pytest.mark.parametrize("rows", [1, 7])
def test_fp8_layers_multiply_what_their_codes_stand_for(rows):
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(256, 32), torch.randn(2, rows, 256)
    layer = weights.FORMATS["fp8-mm"].make(linear, "cpu")
    # By hand: rows over their largest magnitude in e4m3, products of the rounded values in float64.
    sides = []
    for side in (x.flatten(0, 1), linear.weight.data):
        scale = side.abs().amax(1, keepdim=True) / 448
        sides.append((side / scale).to(torch.float8_e4m3fn).double() * scale.double())
    expected = sides[0] @ sides[1].T + linear.bias.double()
    torch.testing.assert_close(layer(x).flatten(0, 1).double(), expected, rtol=1e-5, atol=1e-5)
    assert layer.codes.dtype == torch.float8_e4m3fn
    assert layer.scales.shape == (1, 32)  # as torch._scaled_mm takes a scale a row of the weight


@pytest.mark.parametrize("rows", [1, 7])
def test_int4_layers_multiply_what_their_codes_stand_for(rows):
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(256, 32, bias=False), torch.randn(rows, 256).bfloat16()
    layer = weights.FORMATS["int4-mm"].make(linear, "cpu")  # torch's own kernel for CPUs
    codec = codecs.CODECS["int4"]
    expected = x.double() @ codec.decode(codec.encode(linear.weight.data)).double().T
    result = layer(x).double()
    assert (result - expected).norm() / expected.norm() < weights.ERROR
    assert layer.scales.shape == (256 // 64, 32, 2)  # (groups, out, scale and zero) of tinygemm


def test_packed_pairs_hold_the_even_column_in_the_high_bits():
    """What `torch._convert_weight_to_int4pack` takes on a GPU: (out, in / 2) bytes; in torchao's
    words, the first of two codes shifted by four, or the second."""
    codes = torch.arange(16, dtype=torch.uint8).repeat(2).view(2, 16)
    pairs = weights.pairs(codes)
    assert pairs.shape == (2, 8)
    assert [f"{byte:02x}" for byte in pairs[0].tolist()] == [
        *("01", "23", "45", "67", "89", "ab", "cd", "ef")
    ]


# ------------------------------------------------------------------ the clock and the ceilings


def test_time_a_call_is_that_of_the_call():
    took = timing.time_calls(lambda: time.sleep(0.003), "cpu")
    assert len(took.seconds) == timing.REPEATS
    assert took.seconds[0] >= 0.003
    assert list(took.seconds) == sorted(took.seconds)
    assert took.joules is took.clock_mhz is None
    columns = took.columns("us", 1e6)
    assert columns["us_low"] <= columns["us"] <= columns["us_high"]


@pytest.mark.parametrize(("spent", "joules"), [(2.0, 7.0), (0.5, None)])
def test_energy_is_the_difference_of_the_counter_and_not_given_for_short_times(
    monkeypatch, spent, joules
):
    class Meter:
        readings = iter([5.0, 12.0])

        def __init__(self, device):
            pass

        def joules(self):
            return next(self.readings)

        def clock(self):
            return 1830

    clock = iter([0.0, spent])
    monkeypatch.setattr(timing, "Meter", Meter)
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(clock))
    took = timing.time_calls(lambda: None, "cpu")
    assert (took.joules, took.clock_mhz) == (joules, 1830)


def test_a_card_without_the_counter_reads_none():
    class Nvml:
        def nvmlDeviceGetClockInfo(self, handle, kind):
            return 1980 if (handle, kind) == ("card", 1) else None

    meter = timing.Meter("cpu")
    assert meter.joules() is meter.clock() is None
    meter.nvml, meter.handle = Nvml(), "card"
    assert (meter.joules(), meter.clock()) == (None, 1980)


@pytest.mark.parametrize("method", [*ceilings.MEMORY, *ceilings.PRODUCTS])
def test_a_ceiling_counts_its_bytes_or_flops(method, monkeypatch):
    fixed = timing.Timing((0.5, 1.0, 2.0), 3)
    monkeypatch.setattr(timing, "time_calls", lambda work, device: work() is None or fixed)
    size = 1 << 16 if method in ceilings.MEMORY else 64
    amount = {"copy": 2 * size, "read": size}.get(method, 2 * size**3)
    assert ceilings.measure(method, size, "cpu")["rate"] == amount / 0.5
