"""Models of random weights, their outliers, and the kernels of a step."""

import pytest
from device_parts import (  # noqa: F401 - fixtures
    FOUR_BITS,
    config,
    the_quick,
    the_tiny,
)
from sizewise.benchmark import decode, int8_columns, model, profile, rows
from sizewise.models import random_weights

torch = pytest.importorskip("torch")


def test_a_built_model_has_the_parameters_of_its_configuration(tiny):
    assert tiny.described.total == sum(one.numel() for one in tiny.model.parameters())
    frequencies = 2 * 4 * tiny.config.head_dim // 2
    assert tiny.held == 4 * tiny.described.total + frequencies


def test_its_random_weights_are_a_function_of_the_seed():
    first, again, other = (model.build("llama-tiny", "fp32", "cpu", seed) for seed in (0, 0, 1))
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
    channels = random_weights.planted(width)
    assert len(channels) == number
    assert channels[-1] < width
    assert len(set(channels)) == number


@FOUR_BITS
@pytest.mark.parametrize("batch", [1, 64])
def test_the_outliers_of_a_step_are_those_that_were_planted(batch):
    one = model.build("llama-little", "int8", "cpu")
    step = decode.static(one, "static", batch, 64)
    found = int8_columns.counted(one.model, step)
    width, wide, number = 384, 1024, 6
    # Query, key, value, gate and up read a norm with one planted channel; the others none.
    assert found["outlier_columns"] == 5 * number
    assert found["outlier_share"] == 5 / (5 * width + width + wide)
    assert not any(module._forward_pre_hooks for module in one.model.modules())


@FOUR_BITS
def test_outliers_are_counted_as_bitsandbytes_takes_them_out():
    one = model.build("llama-little", "int8", "cpu")
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
    one = model.build("llama-little", format, "cpu")
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
            for module in model.build("llama-tiny", format, "cpu").model.modules()
            if type(module).__name__ == "Linear8bitLt"
        }
        for format in ("int8", "int8-plain")
    }
    assert thresholds == {"int8": {6.0}, "int8-plain": {0.0}}


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("llama-9b", "bf16", "unknown model"),
        ("llama-tiny", "nf5", "did you mean"),
        ("gpt2", "fp32", "like Llama"),
    ],
)
def test_a_model_or_format_that_is_not_there_is_named(name, format, words):
    with pytest.raises(ValueError, match=words):
        model.build(name, format, "cpu")


# ------------------------------------------------------------------ kernels


@FOUR_BITS
@pytest.mark.parametrize(("format", "coded"), [("fp32", False), ("int8", True), ("nf4", True)])
def test_the_operations_of_a_step_are_counted_and_sorted(format, coded):
    one = model.build("llama-tiny", format, "cpu")
    found = profile.profiled(one, "static", 1, 16)
    groups = (*profile.GROUPS, profile.REST)
    assert found["kernels"] == sum(found[f"{name}_kernels"] for name in groups)
    assert found["attention_kernels"] == one.config.num_hidden_layers
    assert found["matmul_kernels"] > 0
    assert (found["dequantize_kernels"] > 0) is coded
    if format == "fp32":
        assert found["matmul_kernels"] == 7 * one.config.num_hidden_layers + 1
        assert found["elementwise_kernels"] > found["matmul_kernels"]
    assert found["busy_ms"] + found["gap_ms"] == pytest.approx(found["span_ms"])
    assert 0 <= found["gap_ms"] < found["span_ms"]
    assert len(found["top_kernels"]) == profile.TOP
    assert found["top_kernels"][0]["ms"] >= found["top_kernels"][-1]["ms"] > 0


def test_time_and_gaps_of_kernels_by_hand():
    seen = [
        profile.Kernel("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 10, 30),
        profile.Kernel("void at::native::vectorized_elementwise_kernel<4, f>", 20, 40),
        profile.Kernel("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 50, 60),
    ]
    found = profile.told(seen)
    assert (found["span_ms"], found["busy_ms"], found["gap_ms"]) == (0.05, 0.04, 0.01)
    assert (found["matmul_ms"], found["elementwise_ms"]) == (0.03, 0.02)
    first = {"name": seen[0].name, "ms": 0.03, "kernels": 2}
    assert found["top_kernels"][0] == first
    with pytest.raises(RuntimeError, match="saw no kernel"):
        profile.told([])


@pytest.mark.parametrize(
    ("name", "group"),
    [
        (
            "void pytorch_flash::flash_fwd_splitkv_kernel"
            "<Flash_fwd_kernel_traits<128, cutlass::bf16>>",
            "attention",
        ),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matmul"),
        ("ampere_sgemm_32x32", "matmul"),
        ("void gemv2T_kernel_val<int, int, __nv_bfloat16>", "matmul"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int>", "matmul"),
        ("void gemm_4bit_simt<__nv_bfloat16, 1>", "matmul"),
        ("void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>", "dequantize"),
        ("void kInt8VectorQuant<__half, 1024, 1>", "dequantize"),
        ("void kdequant_mm_int32_fp16<4, 512>", "dequantize"),
        ("void at::native::reduce_kernel<512, 1, ReduceOp<float, MeanOps<float>>>", "elementwise"),
        ("void at::native::CatArrayBatchedCopy_contig<OpaqueType<2u>>", "elementwise"),
        ("Memcpy DtoD (Device -> Device)", "copy"),
        ("Memset (Device)", "copy"),
        ("aten::mm", "matmul"),
        ("aten::_int_mm", "matmul"),
        ("aten::mul", "elementwise"),
        ("bitsandbytes::dequantize_4bit", "dequantize"),
    ],
)
def test_kernels_are_sorted_by_their_names(name, group):
    assert profile.group(name) == group
