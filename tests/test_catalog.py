"""The catalogue: every entry found by name, in units one can compute with."""

import pytest
from sizewise.data import catalog


def test_names_and_aliases_of_devices_are_unique():
    names = [n.lower() for d in catalog.devices().values() for n in (d.name, *d.aliases)]
    assert len(names) == len(set(names))


def test_a_device_is_found_by_every_name_it_has_whatever_the_case():
    for device in catalog.devices().values():
        for name in (device.name, *device.aliases):
            assert catalog.device(name) is device
            assert catalog.device(name.upper()) is catalog.device(name.lower()) is device


def test_an_unknown_name_comes_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"^unknown device 'H10'; did you mean 'H100'\?$"):
        catalog.device("H10")
    with pytest.raises(ValueError, match=r"^unknown model 'gpt-2'; did you mean 'gpt2'\?$"):
        catalog.model("gpt-2")
    with pytest.raises(ValueError, match=r"did you mean 'h100_gpu_hour'\?$"):
        catalog.amount("h100_hour")
    with pytest.raises(ValueError, match=r"did you mean 'llama-3.1-405b'\?$"):
        catalog.run("llama-405b")


def test_published_sizes_are_in_parameters_and_published_active_ones_are_smaller():
    for entry in catalog.models().values():
        if entry.published_total:
            assert entry.published_total > 10**6, entry.name
            assert abs(entry.counted["total"] / entry.published_total - 1) < 0.1, entry.name
        if entry.published_active:
            total = entry.published_total or entry.counted["total"]
            assert entry.published_active < total, entry.name
        assert not entry.exact or isinstance(entry.published_total, int), entry.name


def test_devices_are_in_bytes_operations_and_watts():
    for device in catalog.devices().values():
        assert 1e9 < device.memory_bytes < 1e12, device.name
        assert 1e11 < device.bandwidth < 1e14, device.name
        assert all(rate is None or 1e13 < rate < 1e17 for rate in device.flops.values())
        assert device.tdp_watts is None or 10 < device.tdp_watts < 3000, device.name
        # Halving the bits never slows a tensor core down.
        if device.flops["fp8"]:
            assert device.flops["fp8"] >= device.flops["bf16"], device.name


def test_rates_are_the_dense_ones():
    # NVIDIA's data sheets print twice these, "with sparsity".
    assert catalog.device("H100").flops["bf16"] == pytest.approx(989.4e12, rel=1e-3)
    assert catalog.device("A100").flops["bf16"] == pytest.approx(312e12)
    assert catalog.device("H200").memory_bytes == 141e9
    assert catalog.device("H100").bandwidth == 3.35e12


def test_the_price_of_an_hour_is_a_range_in_order():
    assert catalog.hourly_price("H100") == (2.0, 3.0)
    assert catalog.hourly_price("TPU-v5e") is None
    for device in catalog.devices():
        if price := catalog.hourly_price(device):
            assert 0 < price[0] <= price[1] < 100


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("llama-3.1-405b", "Llama 3.1 405B"),
        ("gpt-oss-120b", "gpt-oss 120B"),
        ("mixtral-8x7b", "Mixtral 8x7B"),
        ("qwen3.5-397b-a17b", "Qwen3.5 397B A17B"),
        ("deepseek-v3.2", "DeepSeek V3.2"),
        ("smollm2-135m", "SmolLM2 135M"),
        ("gpt2-xl", "GPT-2 XL"),
        ("gemma-4-e2b", "Gemma 4 E2B"),
        ("qwen2.5-coder-0.5b", "Qwen2.5-Coder 0.5B"),
        ("minilm-l6", "MiniLM L6"),
        ("switch-c-2048", "Switch-C 2048"),
        ("gpt-5.4-nano", "GPT-5.4 Nano"),
        ("claude-opus-4-6", "Claude Opus 4.6"),
    ],
)
def test_names_are_written_as_their_makers_write_them(name, written):
    assert catalog.title(name) == written


# ---- released configurations


@pytest.mark.parametrize("name", catalog.models())
def test_no_entry_rests_on_a_class_default(name):
    entry = catalog.model(name)
    config = entry.config.get("text_config", entry.config)
    for names in (
        ("hidden_size", "n_embd", "d_model"),
        ("num_hidden_layers", "n_layer", "num_layers", "layers_block_type"),
        ("num_attention_heads", "n_head", "num_heads"),
        ("vocab_size",),
    ):
        assert any(field in config for field in names), (name, names)
    assert "Default configuration" not in entry.note
    assert "default configuration" not in entry.note


@pytest.mark.parametrize("name", catalog.models())
def test_every_entry_says_where_it_was_read_and_has_three_numbers(name):
    entry = catalog.model(name)
    assert entry.repository or entry.file, name
    assert entry.read_in
    assert entry.total_from
    numbers = ("total", "active", "kv_bytes_per_token")
    assert all(entry.counted.get(number) is not None for number in numbers)


def test_a_repository_belongs_to_one_entry():
    repositories = [e.repository for e in catalog.models().values() if e.repository]
    assert len(repositories) == len(set(repositories))


def test_experts_of_kimi_k3_work_in_a_narrower_space():
    from sizewise.models import estimate, parameters

    assert parameters.count("kimi-k3").total == pytest.approx(2.78e12, rel=1e-3)
    fields = catalog.model("kimi-k3").config
    naive = {**fields, "text_config": {**fields["text_config"], "routed_expert_hidden_size": None}}
    total = sum(row.parameters for row in estimate.tensors(naive))
    assert total == pytest.approx(5.45e12, rel=0.01)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("4090", "RTX-4090"),
        ("RTX 4090", "RTX-4090"),
        ("nvidia geforce rtx 4090", "RTX-4090"),
        ("h100-sxm", "H100"),
        ("H100 80GB", "H100"),
        ("h100_pcie", "H100-PCIe"),
        ("a100 80gb", "A100-80GB"),
        ("amd instinct mi300x", "MI300X"),
        ("m4 max", "M4-Max"),
    ],
)
def test_a_device_has_any_usual_spelling(spelling, name):
    assert catalog.device(spelling).name == name


def test_a_device_may_be_described():
    device = catalog.device("24GiB:936GB/s:165TFLOPs")
    assert (device.memory_bytes, device.bandwidth) == (24 * 2**30, 936e9)
    assert device.flops["bf16"] == 165e12
    assert catalog.device("24GB:1TB/s").flops["bf16"] is None


@pytest.mark.parametrize("text", ["24", "24GB:", "24GB:fast", "0GB:1TB/s", "1GB:1GB/s:1:1", ":"])
def test_a_device_described_badly_is_refused_with_the_form(text):
    with pytest.raises(ValueError, match="device"):
        catalog.device(text)


@pytest.mark.parametrize("name", ["M4", "apple m4", "mi300"])
def test_a_smaller_product_is_not_taken_for_its_larger_namesake(name):
    with pytest.raises(ValueError, match="device"):
        catalog.device(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100 SXM5 80GB", "H100"),
        ("NVIDIA H200 141GB", "H200"),
        ("A100 SXM4 40GB", "A100-40GB"),
        ("a100 sxm", "A100-80GB"),
        ("RTX 4090", "RTX-4090"),
        ("M3 Ultra 512GB", "M3-Ultra"),
    ],
)
def test_a_device_is_known_with_its_socket_and_its_memory(text, name):
    assert catalog.device(text).name == name


@pytest.mark.parametrize("text", ["V100", "H800", "L40", "4080", "M4", "M2 Ultra", "h100 nvl"])
def test_another_device_is_not_suggested(text):
    with pytest.raises(ValueError, match="unknown device") as error:
        catalog.device(text)
    assert "did you mean" not in str(error.value)
    assert "24GiB:936GB/s:165TFLOPs" in str(error.value)
