"""Weight formats: tables from their definitions, codes as bitsandbytes makes them, bytes held."""

import copy
import gc
import math
import sys

import numpy as np
import pytest
import torch
from sizewise import paths
from sizewise.costs import formats
from sizewise.models import checkpoint, parameters, random_weights
from sizewise.models import config as configs
from sizewise.quantization import tensor_bytes
from sizewise.quantization.weights import codecs, convert, layers
from sizewise.training import models

sys.path.insert(0, str(paths.root() / "scripts"))
import weight_quality

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def uncompiled():
    """Odd shapes would be compiled one by one; other tests of this process do compile."""
    with torch._dynamo.config.patch(disable=True):
        yield


bitsandbytes = layers.bnb()
functional = pytest.importorskip("bitsandbytes.functional")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def small(family="dense", width=64, seed=0, **fields):
    """A model with weights at random, its head too."""
    spec = models.spec(family, width, 512, 32)
    spec.fields.update(fields)
    model = models.build(spec, seed).eval()
    head = model.get_output_embeddings().weight
    torch.nn.init.normal_(head.data, 0, 0.05, generator=torch.Generator().manual_seed(seed))
    return model


CALIBRATION = np.arange(8 * 32).reshape(8, 32)  # of a vocabulary of 512
UNCALIBRATED = [name for name in convert.FORMATS if not layers.FORMATS[name].calibrated]


def needs(name):
    if reason := convert.refusal(name):
        pytest.skip(reason)


# --- blocks


def as_published(x, kind, double):
    """Values of bitsandbytes' blocks of 64, read as one row (see `layers.linear_4bit`)."""
    packed, state = functional.quantize_4bit(
        x, blocksize=64, quant_type=kind, compress_statistics=double
    )
    scales = state.absmax
    if double:
        scales = functional.dequantize_blockwise(scales, state.state2) + state.offset
    flat = torch.ops.bitsandbytes.dequantize_4bit(packed, scales, 64, kind, (1, x.numel()), x.dtype)
    return flat.reshape(x.shape)


def test_normal_float_of_four_bits_is_the_published_table_to_two_in_ten_million():
    """That one was made in single precision from an offset of seven digits."""
    published = functional.get_4bit_type("nf4", device="cpu").numpy()
    assert 1e-7 < np.abs(codecs.normal_float(4) - published).max() < 2e-7


@pytest.mark.parametrize("bits", range(2, 9))
def test_normal_float_of_any_width_has_an_exact_zero_and_one_level_more_above(bits):
    levels = codecs.normal_float(bits)
    assert len(levels) == 2**bits
    assert np.all(np.diff(levels) > 0)
    assert (levels < 0).sum() == 2 ** (bits - 1) - 1
    assert (levels == 0).sum() == 1
    assert (levels[0], levels[-1]) == (-1, 1)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(64, 64), (7, 9), (1, 1), (64, 96), (256, 333)])
def test_each_value_becomes_its_nearest_level_times_the_largest_of_its_block(kind, shape):
    """Codes and scales computed here, against the values of the converted layer."""
    levels = functional.get_4bit_type(kind, device="cpu").double()
    weight = normal(*shape)
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    scales = flat.abs().amax(1, keepdim=True).double()
    nearest = ((flat.double() / scales).unsqueeze(2) - levels).abs().amin(2) * scales
    values, _ = weight_quality.round_matrix(weight, kind)
    apart = (values - weight).abs().flatten().double()
    assert torch.allclose(apart, nearest.flatten()[: weight.numel()], atol=1e-6)


def test_normal_float_errs_less_than_fp4_on_normal_weights():
    x = normal(4096, 64)
    nf4, fp4 = (weight_quality.round_matrix(x, kind)[0] for kind in ("nf4", "fp4"))
    assert (nf4 - x).square().mean() < (fp4 - x).square().mean()


@pytest.mark.parametrize(
    ("name", "scales"), [("nf4", 4 * 1024), ("nf4-dq", 1024 + 4 * 4 + 4 + 1024)]
)
def test_bytes_of_a_matrix_are_those_of_the_format(name, scales):
    """Half a byte a value, a table of 16, and 1,024 scales: in fp32, or in 8 bits with a table."""
    size = weight_quality.round_matrix(normal(256, 256), name)[1]
    assert size == 256 * 256 // 2 + 16 * 4 + scales


# --- bytes held


def reachable(model):
    """Bytes of every storage that the garbage collector finds from a model: another way."""
    result, stack, observed = {}, [model], set()
    while stack:
        item = stack.pop()
        if (
            id(item) in observed
            or isinstance(item, type | type(torch))
            or (callable(item) and not (isinstance(item, torch.nn.Module)))
        ):
            continue
        observed.add(id(item))
        if isinstance(item, torch.Tensor):
            inner = getattr(item, "__tensor_flatten__", None)
            if inner is None:
                storage = item.untyped_storage()
                result[storage.data_ptr()] = storage.nbytes()
            else:
                stack.extend(getattr(item, name) for name in inner()[0])
            stack.append(vars(item))
        else:
            stack.extend(gc.get_referents(item))
    return sum(result.values())


@pytest.mark.parametrize(
    ("name", "family"),
    [(name, "dense") for name in convert.FORMATS] + [(name, "moe") for name in UNCALIBRATED],
)
def test_held_bytes_are_those_of_the_storages_that_can_be_reached(name, family):
    needs(name)
    model = small(family)
    built = convert.convert(model, name, calibration=CALIBRATION)
    assert built.stored.total == reachable(model)
    with torch.no_grad():
        model(input_ids=torch.arange(16)[None])
    assert tensor_bytes.measure_bytes(model) == built.stored, "a forward pass changed what is held"


def test_bytes_of_a_tied_head_are_counted_once():
    model = small(tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    plain = parameters.count(configs.Spec("t", model.config.to_dict(), "test")).total
    buffers = {id(item): item.nbytes for item in model.buffers()}
    assert tensor_bytes.measure_bytes(model).total == 4 * plain + sum(buffers.values())
    built = convert.convert(model, "bf16")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert built.stored.total == 2 * plain + sum(buffers.values())


def test_views_and_meta_tensors_are_counted_as_storages():
    item = torch.nn.Module()
    base = torch.zeros(10)
    item.a, item.b = torch.nn.Parameter(base[:4]), torch.nn.Parameter(base[2:])
    assert tensor_bytes.measure_bytes(item).total == 40
    meta = torch.nn.Sequential(*(torch.nn.Linear(8, 8, device="meta") for _ in range(3)))
    assert tensor_bytes.measure_bytes(meta).total == 3 * (64 + 8) * 4


# What the described formats leave out of account: one scale a row or a matrix, tables.
UNCOUNTED = {"fp8": 32 / 1024, "nvfp4": 32 / (512 * 1024)}
UNCOUNTED |= dict.fromkeys(("nf4", "fp4"), 16 * 32 / (512 * 1024))
UNCOUNTED |= dict.fromkeys(("nf4-dq", "fp4-dq"), (16 + 256 + 1) * 32 / (512 * 1024))


DESCRIBED = [name for name in convert.FORMATS if name in formats.WEIGHTS and name != "int4"]


@pytest.mark.parametrize("name", DESCRIBED)  # "int4" is described without scales, as a bound
def test_bits_of_a_layer_are_those_of_the_described_format(name):
    needs(name)
    described = formats.WEIGHTS[name]
    model = torch.nn.Sequential(torch.nn.Linear(1024, 512, bias=False))
    built = convert.convert(model, name)
    expected = described.bits + described.per_row / 1024 + UNCOUNTED.get(name, 0)
    assert built.bits == pytest.approx(expected, abs=1e-12)


# --- conversion


def test_names_in_order_and_the_nearest_one():
    plain = ("fp32", "bf16", "fp16", "int8", "nf4", "nf4-dq", "fp4", "fp4-dq")
    assert convert.FORMATS[:8] == plain
    for call in (convert.refusal, lambda name: convert.convert(small(), name)):
        with pytest.raises(ValueError, match="did you mean 'nf4-dq'"):
            call("nf4_dq")


def test_what_this_machine_cannot_run_is_refused_with_its_reason(monkeypatch):
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda name: None)
    for name in ("int8", "nf4", "nf4-dq", "fp4", "fp4-dq"):
        assert convert.refusal(name) == "the package bitsandbytes is not installed"
    assert convert.refusal("mxfp4") is None
    with pytest.raises(ValueError, match=r"nf4 cannot be used here: the package bitsandbytes"):
        convert.convert(small(), "nf4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert convert.refusal("mxfp4", "cuda:0") == "torch sees no GPU here"
    assert "cpu and cuda" in convert.refusal("nf4", "mps")


@pytest.mark.parametrize("kind", ["nf4", "nf4-dq", "fp4", "fp4-dq"])
@pytest.mark.parametrize("shape", [(40, 96), (33, 64), (64, 176), (17, 9)])
def test_a_four_bit_layer_multiplies_by_the_weights_that_its_codes_stand_for(kind, shape):
    rows, columns = shape
    linear = torch.nn.Linear(columns, rows)
    linear.weight.data = normal(rows, columns)
    values = as_published(linear.weight.data, kind.removesuffix("-dq"), kind.endswith("-dq"))
    model = torch.nn.Sequential(linear)
    convert.convert(model, kind)
    x = normal(5, columns, seed=1)
    exact = x.double() @ values.double().T + linear.bias.double()
    for _ in range(2):  # a first pass must leave the layer as it was
        assert model(x).double().detach().numpy() == pytest.approx(exact.detach().numpy(), abs=1e-4)
    assert torch.equal(layers.decoded_4bit(model[0]), values)


def test_an_int8_layer_keeps_outlier_columns_out_of_the_8_bits():
    linear = torch.nn.Linear(64, 32, bias=False)
    linear.weight.data = normal(32, 64) / 8
    x = normal(8, 64, seed=1)
    x[:, 3] *= 60  # one column of activations over 6
    model = torch.nn.Sequential(linear)
    exact = linear(x).detach()
    built = convert.convert(model, "int8")
    with torch.no_grad():
        apart = (model.eval()(x) - exact).abs()
    # Rounding alone: each product errs by half a step of weights and of the other activations.
    inliers = x.clone()
    inliers[:, 3] = 0
    step_x, step_w = inliers.abs().amax(1) / 254, built.model[0].state.SCB / 254  # (8,), (32,)
    bound = step_x[:, None] * linear.weight.abs().sum(1) + x.abs().sum(1)[:, None] * step_w
    assert (apart <= bound * 1.05).all()
    naive = x.abs().amax(1)[:, None] / 254 * linear.weight.abs().sum(1)
    assert apart.mean() < 0.2 * naive.mean()


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("bf16", 0.02),
        ("int8", 0.05),
        ("nf4", 0.2),
        ("hqq4", 0.2),
        ("fp4", 0.25),
        ("gptq4", 0.2),
        ("fp8", 0.08),
        ("q8_0", 0.05),
        ("mxfp4", 0.3),
        ("nvfp4", 0.2),
        ("q4_0", 0.2),
        ("awq4", 0.2),
        ("nf3", 0.4),
        ("hqq3", 0.4),
    ],
)
def test_a_converted_model_has_nearly_the_same_logits(name, most):
    needs(name)
    model, ids = small(), torch.arange(32)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        convert.convert(model, name, calibration=CALIBRATION)
        after = model(input_ids=ids).logits.float()
    apart = (after - before).norm() / before.norm()
    assert 0 < apart < most


def test_the_head_stays():
    model = small()
    built = convert.convert(model, "nf4")
    assert type(model.lm_head) is torch.nn.Linear
    assert built.layers == 7 * model.config.num_hidden_layers
    assert built.left == {"Embedding": 512 * 64, "output head": 512 * 64}


def mixture(name):
    """A tiny mixture of experts of a `transformers` class, weights at random."""
    import transformers

    small = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    more = {
        "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
        "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64},
        "DeepseekV3": {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 16,
            "v_head_dim": 16,
        },
    }
    fields = small | more[name]
    if name == "DeepseekV3":
        fields.pop("head_dim")
        fields["num_key_value_heads"] = 4
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 3:
                parameter.normal_(0, 0.1)
    return model


MIXTURES = ["Mixtral", "Qwen3Moe", "GptOss", "DeepseekV3"]


@pytest.mark.parametrize("form", ["nf4", "int8", "mxfp4", "q8_0"])
@pytest.mark.parametrize("name", MIXTURES)
def test_experts_are_converted_and_give_what_their_decoded_matrices_give(name, form, monkeypatch):
    needs(form)
    model, ids = mixture(name), torch.arange(24)[None] * 5 % 128
    experts = {p: tuple(w.shape) for p, w in model.named_parameters() if w.ndim == 3}
    counted = sum(math.prod(shape) for shape in experts.values())
    assert set(convert.expert_matrices(model)) == set(experts)
    built = convert.convert(model, form)
    assert built.weights >= counted
    assert not any("(3-D)" in kind for kind in built.left)
    matrices = built.parameters - sum(built.left.values())
    assert built.weights / matrices > 0.97  # norms, biases and routers are the rest
    assert built.bits < 32 * sum(built.left.values()) / built.parameters + 12
    other = mixture(name)
    with torch.no_grad():
        after = model(input_ids=ids).logits
        before = other(input_ids=ids).logits
        for path, module in model.named_modules():  # the same values in plain parameters
            if type(module).__name__ == "ExpertMatrices":
                owner, key = path.rsplit(".", 1)
                plain = torch.stack([module[at] for at in range(len(module))])
                getattr(other.get_submodule(owner), key).copy_(plain)
        monkeypatch.setattr(convert, "expert_matrices", lambda model: {})
        convert.convert(other, form)
        expected = other(input_ids=ids).logits
    assert torch.allclose(after, expected, atol=2e-4)
    assert 0 < (after - before).norm() < before.norm()


def test_experts_of_the_laboratory_are_four_bits_of_all_but_the_embedding():
    model = small("moe")
    built = convert.convert(model, "nf4")
    uncoded = 8 * built.stored.high_precision / built.parameters
    assert built.left.keys() == {"Embedding", "output head", "Qwen3MoeTopKRouter"}
    coded = built.weights / built.parameters
    assert built.bits == pytest.approx(uncoded + 4.5 * coded, rel=0.1)


def test_a_calibrated_format_takes_no_experts_and_needs_a_text():
    with pytest.raises(ValueError, match="gptq4 is not made for experts"):
        convert.convert(small("moe"), "gptq4", calibration=CALIBRATION)
    with pytest.raises(ValueError, match="gptq4 looks at a layer's inputs"):
        convert.convert(small(), "gptq4")


@pytest.mark.parametrize("ending", ["layers.0.mlp.up_proj.weight", "experts.gate_up_proj"])
def test_weights_that_are_not_finite_are_named(ending):
    model = small("moe" if "experts" in ending else "dense")
    path, weight = next(item for item in model.named_parameters() if item[0].endswith(ending))
    weight.data.view(-1)[5] = math.nan
    with pytest.raises(ValueError, match=f"{path.removesuffix('.weight')} holds weights that are"):
        convert.convert(model, "q8_0")


def test_gpt2s_layers_are_converted_though_they_are_no_linear_ones():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=128, n_positions=32, n_embd=64, n_layer=2, n_head=4)
    model, ids = GPT2LMHeadModel(config).eval(), torch.arange(16)[None]
    with torch.no_grad():
        for name, item in model.named_parameters():
            if "bias" in name:
                item.normal_(0, 0.1)
        before = model(input_ids=ids).logits
        built = convert.convert(model, "int8")
        after = model(input_ids=ids).logits
    assert built.layers == 8
    assert built.weights == 2 * 12 * 64**2
    assert (after - before).norm() < 0.05 * before.norm()
    assert built.stored.codes == built.weights


def test_a_layer_that_two_places_share_is_converted_once():
    shared = torch.nn.Linear(64, 64)
    model = torch.nn.Sequential(shared, torch.nn.Tanh(), shared)
    built = convert.convert(model, "nf4")
    assert model[0] is model[2]
    assert built.layers == 1
    assert built.stored.codes == 64 * 64 // 2


def test_casting_leaves_the_rotary_frequencies_alone():
    model = small()
    before = {name: item.clone() for name, item in model.named_buffers()}
    convert.convert(model, "bf16")
    assert before
    for name, item in model.named_buffers():
        assert torch.equal(item, before[name]), name
    assert {item.dtype for item in model.parameters()} == {torch.bfloat16}


def test_a_model_without_weights_is_made_layer_by_layer_in_its_format():
    config = configs.build(models.spec("dense", 64, 512, 32))
    model = random_weights.empty(config, "float32")
    assert all(item.is_meta for item in model.parameters())
    assert not any(item.is_meta for item in model.buffers())
    most, filled = [], []
    at_random = random_weights.at_random(seed=3)

    def fill(name, tensor):
        most.append(filled_bytes(model))
        filled.append(name)
        at_random(name, tensor)

    def filled_bytes(model):
        return sum(item.nbytes for item in model.parameters() if not item.is_meta)

    with pytest.raises(ValueError, match="name the device"):
        convert.convert(model, "nf4")
    with pytest.raises(ValueError, match="no fill was given"):
        convert.convert(model, "nf4", device="cpu")
    built = convert.convert(model, "nf4", device="cpu", fill=fill)
    assert built.stored.codes * 2 == built.weights
    assert sorted(filled) == sorted(name for name, _ in small().named_parameters())
    full = 4 * built.parameters
    embedding_and_head = 2 * 4 * 512 * 64
    assert max(most) < embedding_and_head + 0.3 * (full - embedding_and_head)
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=torch.arange(16)[None]).logits).all()


def test_a_tied_model_without_weights_stays_tied():
    spec = models.spec("dense", 64, 512, 32)
    spec.fields["tie_word_embeddings"] = True
    model = random_weights.empty(configs.build(spec), "bfloat16")
    built = convert.convert(model, "nf4", device="cpu", fill=random_weights.at_random())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert built.stored.high_precision < 2 * 512 * 64 * 2


def test_progress_ends_at_the_number_of_modules():
    messages = []
    convert.convert(small(), "nf4", progress=lambda done, total: messages.append((done, total)))
    assert [done for done, _ in messages] == list(range(1, messages[-1][1] + 1))


def test_a_gguf_file_is_read_as_it_is(tmp_path):
    gguf = pytest.importorskip("gguf")
    file = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")
    kinds = gguf.GGMLQuantizationType
    for name, kind, rows in (
        ("token_embd.weight", kinds.Q8_0, 96),
        ("blk.0.ffn_up.weight", kinds.Q4_0, 64),
        ("blk.0.ffn_down.weight", kinds.Q4_0, 32),
        ("norm.weight", kinds.F32, 1),
    ):
        values = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    result = checkpoint.read(file)
    assert result.by_type() == [
        ("Q8_0", 1, 96 * 64, 96 * 64 * 34 // 32),
        ("Q4_0", 2, 96 * 64, 96 * 64 * 18 // 32),
        ("F32", 1, 64, 256),
    ]
    assert [item.bits for item in result.by_type()] == [8.5, 4.5, 32]
    assert result.parameters == 2 * 96 * 64 + 64
    assert result.file_bytes > result.tensor_bytes == 96 * 64 * 52 // 32 + 256


def test_a_deep_copy_converts_like_the_original():
    model = small()
    other = copy.deepcopy(model)
    assert convert.convert(model, "nf4").stored == convert.convert(other, "nf4").stored
