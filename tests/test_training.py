"""Training arithmetic against the papers' own figures and published runs."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.costs import training
from sizewise.costs.training import OPTIMIZERS, Range, state_bytes

YEAR = 365.25 * 24 * 3600  # seconds
H100 = SimpleNamespace(
    name="H100",
    memory_bytes=80e9,
    bandwidth=3.35e12,
    tdp_watts=700,
    flops={"bf16": 989.4e12, "fp8": 1978.9e12, "fp4": None},
)


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_papers_figure_1(stage, gigabytes):
    # Rajbhandari et al. 2020, figure 1: 7.5B parameters, 64 devices, mixed-precision Adam.
    size = state_bytes(7_500_000_000, stage=stage, data=64).total
    assert size / 1e9 == pytest.approx(gigabytes, abs=0.06)


@pytest.mark.parametrize(
    ("name", "bytes_each"),
    [("adam-fp32", 16), ("adam-mixed", 16), ("adam-bf16", 8), ("adam-8bit", 10.03125)],
)
def test_bytes_a_parameter(name, bytes_each):
    assert OPTIMIZERS[name].total == bytes_each


def test_ten_trillion_parameters_need_2000_h100s_for_optimizer_state():
    size = state_bytes(10**13).total
    assert size == 160 * 10**12
    assert size / H100.memory_bytes == 2000
    assert state_bytes(5 * 10**12).total / H100.memory_bytes == 1000


def test_fp32_adam_is_what_torch_keeps():
    layer = torch.nn.Linear(32, 16, bias=False)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 32)).sum().backward()
    optimizer.step()
    moments = sum(v.nbytes for s in optimizer.state.values() for k, v in s.items() if k != "step")
    state = state_bytes(32 * 16, "adam-fp32")
    real = (layer.weight.nbytes, layer.weight.grad.nbytes, moments)
    assert (state.weights, state.gradients, state.optimizer) == real


def test_8_bit_adams_moments_are_what_bitsandbytes_keeps():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    weight = torch.nn.Parameter(torch.randn(512, 1024))
    optimizer = bitsandbytes.optim.Adam8bit([weight])
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    state = optimizer.state[weight]
    real = sum(state[key].nbytes for key in ("state1", "state2", "absmax1", "absmax2"))
    master = 4 * weight.numel()  # bitsandbytes itself keeps none; the table's entry adds one
    assert state_bytes(weight.numel(), "adam-8bit").optimizer == real + master


def test_dense_ten_trillion_on_a_hundred_thousand_h100s():
    # Hoffmann et al. 2022, approach 1, 10T row: 1.30e28 operations.
    run = training.training_run(1.30e28, H100, 100_000, utilization=0.4, price=2)
    assert run.seconds.low / YEAR == pytest.approx(10.4, abs=0.05)
    assert run.device_joules.low / 3.6e12 == pytest.approx(6387, abs=5)  # GWh
    assert run.dollars.low / 1e9 == pytest.approx(18.2, abs=0.1)


def test_sparse_ten_trillion_with_one_trillion_active():
    done = training.training_operations(1e12, 30e12)
    assert done == 1.8e26
    run = training.training_run(done, H100, 100_000, utilization=0.4, price=2)
    assert run.device_joules.low / 3.6e12 == pytest.approx(88, abs=0.6)
    assert run.seconds.low / YEAR == pytest.approx(0.14, abs=0.005)
    assert run.dollars.low / 1e9 == pytest.approx(0.25, abs=0.005)


def test_utilization_implied_by_llama_3_1_405b():
    # Model card: 30.84M H100-hours; report: 3.8e25 operations; 21.6 GWh at 700 W.
    assert training.utilization(3.8e25, 30.84e6, H100) == pytest.approx(0.346, abs=0.0005)
    run = training.training_run(3.8e25, H100, 16_384, utilization=0.346)
    assert run.device_joules.low / 3.6e12 == pytest.approx(21.6, abs=0.05)
    assert run.device_hours.low == pytest.approx(30.84e6, rel=0.002)


def test_utilization_implied_by_deepseek_v3():
    # 2.664M H800-hours of pre-training, 14.8T tokens, 36.6B active; H800 arithmetic is the H100's.
    done = training.training_operations(36.6e9, 14.8e12)
    assert done == pytest.approx(3.25e24, rel=0.002)
    assert training.utilization(done, 2.664e6, H100) == pytest.approx(0.34, abs=0.005)


def test_ranges_widen_and_keep_their_order():
    run = training.training_run((1e24, 2e24), H100, 1000, price=(2, 3))
    ends = (run.seconds, run.device_hours, run.device_joules, run.building_joules, run.dollars)
    assert all(end.low < end.high for end in ends)
    assert run.seconds.low == pytest.approx(1e24 / (0.5 * 989.4e15))
    assert run.seconds.high == pytest.approx(2e24 / (0.3 * 989.4e15))
    assert run.building_joules.high == pytest.approx(run.device_joules.high * 1.3)
    named = " ".join(run.assumptions)
    for word in ("30% to 50%", "989", "700 W", "PUE", "$2 to $3"):
        assert word in named
    json.dumps(dataclasses.asdict(run))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**13), st.integers(1, 4096), st.sampled_from(sorted(OPTIMIZERS)))
def test_each_stage_holds_no_more_than_the_one_before(parameters, data, optimizer):
    sizes = [state_bytes(parameters, optimizer, stage=s, data=data).total for s in range(4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] * data >= sizes[0] > 0  # nothing is lost


positive = st.floats(1e-6, 1e12)


@settings(max_examples=100, deadline=None)
@given(st.tuples(positive, positive), st.tuples(positive, positive))
def test_dividing_a_range_undoes_no_uncertainty(a, b):
    a, b = Range(*sorted(a)), Range(*sorted(b))
    back = a * b / b
    assert back.low <= a.low * (1 + 1e-9)
    assert back.high >= a.high * (1 - 1e-9)


NO_POWER = SimpleNamespace(name="M4", flops={"bf16": None}, tdp_watts=None)
BAD = [
    (lambda: state_bytes(0), "parameters must be from 1"),
    (lambda: state_bytes(1.5), "parameters must be a whole number"),
    (lambda: state_bytes(8, "adm-mixed"), "unknown optimizer 'adm-mixed'; .*'adam-mixed'"),
    (lambda: state_bytes(8, stage=4), "stages 0 to 3, got 4"),
    (lambda: state_bytes(8, data=0), "data parallel must be from 1"),
    (lambda: training.training_operations(-1, 1), "active parameters must be a number above 0"),
    (lambda: training.training_run(1e24, H100, 8, utilization=1.5), "at most 1, got 1.5"),
    (lambda: training.training_run(1e24, H100, 8, utilization=(0.5, 0.3)), "low end 0.5 is above"),
    (lambda: training.training_run(1e24, H100, 8, price=0), "price must be a number above 0"),
    (lambda: training.training_run(1e24, H100, 8, power=700), "power is a share .* got 700"),
    (lambda: training.training_run(1e24, H100, 8, overhead=0.9), "at least 1, got 0.9"),
    (lambda: training.training_run(1e24, H100, 0), "devices must be from 1"),
    (lambda: training.training_run(1e24, H100, 8, format="fp4"), "states no peak in fp4"),
    (lambda: training.training_run(1e24, H100, 8, format="bf61"), "did you mean 'bf16'"),
    (lambda: training.training_run(1e24, NO_POWER, 8), "M4 states no peak in bf16"),
    (lambda: Range.cast((1, 2, 3)), "must be a number or"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


# ---- fine-tuning, against what torch keeps


SMALL = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def small_run():
    """A real step in bf16: the model, its optimizer, and bytes that autograd saved for it."""
    import torch
    from sizewise.models import config, parameters

    spec = config.Spec("small", dict(SMALL))
    built = config.build(spec)
    built._attn_implementation = "sdpa"
    from transformers import LlamaForCausalLM

    def step(checkpointing: bool):
        network = LlamaForCausalLM(built).to(torch.bfloat16).train()
        if checkpointing:
            network.gradient_checkpointing_enable()
        weights = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
        saved = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = torch.randint(0, 1000, (2, 128))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = network(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        adam = torch.optim.AdamW(network.parameters())
        adam.step()
        return network, adam, sum(saved.values())

    return parameters.describe(spec), step


def test_states_of_full_fine_tuning_are_what_torch_keeps(small_run):
    import torch

    model, step = small_run
    network, adam, _ = step(False)
    result = training.fine_tuning(model, "full", optimizer="adam-bf16", sequence=128, batch=2)
    assert result.weights == sum(p.nbytes for p in network.parameters())
    assert result.gradients == sum(p.grad.nbytes for p in network.parameters())
    moments = [t for s in adam.state.values() for t in s.values() if torch.is_tensor(t)]
    assert result.optimizer == sum(t.nbytes for t in moments if t.ndim)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_saved_activations_are_what_autograd_keeps(small_run, checkpointing):
    model, step = small_run
    _, _, saved = step(checkpointing)
    size = training.saved_activation_bytes(model, 128, 2, checkpointing=checkpointing)
    if checkpointing:  # the layer that is recomputed exists in the backward pass alone
        size -= 256 * (11_176)
    assert size == pytest.approx(saved, rel=0.03)


def test_adapters_are_two_matrices_beside_each_linear_layer(small_run):
    model, _ = small_run
    each = 2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 688)  # q and o, k and v, the MLP
    assert training.lora_parameters(model, 16) == 3 * 16 * each
    lora = training.fine_tuning(model, "lora", sequence=128)
    assert lora.adapters == 4 * lora.trained
    assert lora.optimizer == 8 * lora.trained
    assert lora.weights == 2 * model.total
    qlora = training.fine_tuning(model, "qlora", sequence=128)
    assert qlora.weights < lora.weights / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--train", "half"), "unknown method"), (("--train", "lora", "--rank", 0), "rank must be")],
)
def test_bad_words_of_training_are_one_line(sizewise, words, message):
    code, _, err = sizewise("memory", "smollm2-135m", *words)
    assert code == 2
    assert message in err


def test_an_8b_model_in_qlora_fits_a_24_gb_card(sizewise):
    words = ("memory", "llama-3.1-8b", "--train", "qlora", "--device", "4090", "--context", "2k")
    result = json.loads(sizewise(*words, "--json").out)
    assert result["fits"] is True
    assert result["total"] == sum(
        result[part] for part in ("weights", "adapters", "gradients", "optimizer", "activations")
    )
