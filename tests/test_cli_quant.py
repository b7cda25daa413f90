"""`sizewise quantize` as people and programs call it, on a small model in a folder."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
from sizewise.cli import quantize
from sizewise.evaluation import likelihood
from sizewise.models import load
from sizewise.quantization import tensor_bytes
from sizewise.quantization.weights import convert
from sizewise.training import models

torch.set_num_threads(1)
WORDS = "The quick brown fox jumps over the lazy dog; a model counts its bytes. " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model at random with a byte-level tokenizer, as `transformers` saves them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    built = tmp_path_factory.mktemp("a model")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([WORDS], trainer)
    model = models.build(models.spec("dense", 64, 512, 64), 0)
    torch.nn.init.normal_(model.lm_head.weight, 0, 0.02, torch.Generator().manual_seed(0))
    model.save_pretrained(built)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(built)
    return built


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(WORDS)
    return file


def changed(folder, tmp_path, **fields):
    """A folder with another configuration and no weights that fit it."""
    built = tmp_path / "changed"
    built.mkdir()
    for file in folder.iterdir():
        (built / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | fields
    (built / "config.json").write_text(json.dumps(config))
    return built


def test_json_has_the_figures_of_the_library(sizewise, folder, text):
    args = ("quantize", folder, "--format", "nf4-dq", "--text", text, "--context", 32)
    code, out, err = sizewise(*args, "--windows", 5, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    model, tokenizer, _ = load.load(load.find(str(folder)))
    before = tensor_bytes.measure_bytes(model)
    cut, sizes, _ = likelihood.documents(tokenizer, [WORDS], 32)
    subset = quantize._spread(len(cut), 5)
    assert len(set(subset)) == 5
    first = likelihood.measure(model, cut[subset], bytes_of_targets=sizes[subset])
    built = convert.convert(model, "nf4-dq")
    second = likelihood.measure(model, cut[subset], bytes_of_targets=sizes[subset])
    assert result["bytes_before"] == before.as_dict()
    assert result["bytes_after"] == built.stored.as_dict()
    assert result["bytes_after"]["total"] < result["bytes_before"]["total"]
    assert result["bits_per_parameter"] == built.bits
    assert result["layers_converted"] == 14
    assert result["left_in_high_precision"] == {"Embedding": 512 * 64, "output head": 512 * 64}
    for when, rows in (("before", first), ("after", second)):
        nats = rows.nats.sum()
        assert result[f"perplexity_{when}"] == pytest.approx(math.exp(nats / rows.tokens.sum()))
        bits = nats / math.log(2) / rows.bytes.sum()
        assert result[f"bits_per_byte_{when}"] == pytest.approx(bits)
    assert (result["windows"], result["tokens"]) == (5, 5 * 31)
    assert result["perplexity_after"] != result["perplexity_before"]


def test_the_change_has_an_interval_and_the_least_that_the_text_shows(sizewise, folder, text):
    args = ("quantize", folder, "--format", "int3", "--text", text, "--context", 32)
    result = json.loads(sizewise(*args, "--windows", 20, "--json")[1])
    before, after = result["perplexity_before"], result["perplexity_after"]
    assert result["perplexity_change"] == pytest.approx(after / before - 1)
    low, high = result["perplexity_change_low"], result["perplexity_change_high"]
    assert low < result["perplexity_change"] < high
    # Half an interval is 1.96 standard errors, and the least change shown 2.80 of them.
    least = result["least_change_shown"]
    assert least == pytest.approx((high - low) / 2 * 2.80 / 1.96, rel=0.2)
    code, out, _ = sizewise(*args, "--windows", 20)
    assert code == 0
    assert f"this text shows changes from {least:.2%} on" in out
    single = json.loads(sizewise(*args, "--windows", 1, "--json")[1])
    assert single["perplexity_change"] is not None
    assert single["least_change_shown"] is None


def test_a_calibrated_format_looks_at_other_windows_of_the_text(
    sizewise, folder, text, monkeypatch
):
    from sizewise.quantization.weights import calibrated

    requested = []
    moments = calibrated.second_moments

    def watched(model, windows, *args, **options):
        requested.append(windows)
        return moments(model, windows, *args, **options)

    monkeypatch.setattr(calibrated, "second_moments", watched)
    args = ("quantize", folder, "--format", "gptq4", "--text", text, "--context", 32)
    result = json.loads(sizewise(*args, "--windows", 4, "--json")[1])
    assert result["layers_converted"] == 12  # 176 columns of two layers are no multiple of 64
    _, tokenizer, _ = load.load(load.find(str(folder)))
    cut, _, _ = likelihood.documents(tokenizer, [WORDS], 32)
    assert len(requested[0]) == len(cut) - 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("measure", [likelihood.perplexity, likelihood.bits_per_byte])
def test_one_window_that_is_not_finite_is_no_perfect_model(measure, value):
    table = pandas.DataFrame({"nats": [3.0, value], "tokens": [2, 2], "bytes": [4, 4]})
    with pytest.raises(ValueError, match="the loss of 1 of 2 windows is not finite"):
        measure(table)


class TestNotFinite:
    """Predictions that are no numbers are said, and the exit code is not 0."""

    WORDS = ("--format", "nf4", "--context", 32, "--windows", 6)

    def saved(self, folder, tmp_path, change):
        from transformers import AutoModelForCausalLM

        copied = changed(folder, tmp_path)
        model = AutoModelForCausalLM.from_pretrained(copied)
        with torch.no_grad():
            change(model)
        model.save_pretrained(copied)
        return copied

    def test_a_weight_that_is_no_number_is_named(self, sizewise, folder, tmp_path, text):
        def spoil(model):
            model.model.layers[0].mlp.up_proj.weight[3, 3] = math.nan

        spoiled = self.saved(folder, tmp_path, spoil)
        code, out, err = sizewise("quantize", spoiled, "--text", text, *self.WORDS)
        assert (code, out) == (2, "")
        assert "model.layers.0.mlp.up_proj holds weights that are not finite" in err

    def test_logits_that_overflow_in_fp16_are_reported(self, sizewise, folder, tmp_path, text):
        def large(model):
            model.model.norm.weight.fill_(6e4)
            model.lm_head.weight.mul_(100)

        enlarged = self.saved(folder, tmp_path, large)
        args = ("quantize", enlarged, "--text", text, *self.WORDS, "--dtype", "fp16")
        code, out, err = sizewise(*args)
        assert code == 1
        assert "not finite" in out
        assert "6 of 6 windows are not finite before conversion" in err
        code, out, _ = sizewise(*args, "--json")
        result = json.loads(out)
        assert code == 1
        assert result["perplexity_before"] is None
        assert result["perplexity_change"] is None
        assert result["windows_not_finite_after"] == 6

    def test_one_bad_window_of_many_is_not_left_out(self, sizewise, folder, tmp_path):
        text = tmp_path / "bad.txt"
        text.write_text(WORDS + " ~~~~ " + WORDS)
        bad = load.load(load.find(str(folder)))[1]("~", add_special_tokens=False)["input_ids"][-1]

        def spoil(model):
            model.model.embed_tokens.weight[bad] = math.inf

        spoiled = self.saved(folder, tmp_path, spoil)
        args = ("quantize", spoiled, "--text", text, "--format", "nf4", "--context", 32)
        code, out, _ = sizewise(*args, "--windows", 500, "--json")
        result = json.loads(out)
        assert code == 1
        assert 0 < result["windows_not_finite_before"] < result["windows"] / 10
        assert result["perplexity_before"] is None
        assert result["bits_per_byte_after"] is None


def test_a_table_says_what_was_saved_and_what_stayed(sizewise, folder, text):
    code, out, err = sizewise("quantize", folder, "--format", "int8", "--text", text)
    assert (code, err) == (0, "")
    for label in (
        "bytes in memory",
        "high precision",
        "perplexity a token",
        "bits a byte",
        "14 layers",
    ):
        assert label in out
    assert "left in high precision: Embedding 32.8K, output head 32.8K" in out


def test_without_a_file_the_built_in_text_is_measured(sizewise, folder, monkeypatch):
    from sizewise.evaluation import corpora

    requested = []

    def fixed(name, count=None, characters=None):
        requested.append((name, count, characters))
        return [WORDS[:characters]] * 3

    monkeypatch.setattr(corpora, "fixed", fixed)
    args = ("quantize", folder, "--format", "bf16", "--context", 32, "--windows", 40, "--json")
    code, out, _ = sizewise(*args)
    assert code == 0
    assert requested == [("sotu", 32, 2 * 32 * 8)]
    result = json.loads(out)
    assert result["windows"] <= 40
    assert result["bits_per_parameter"] == pytest.approx(16, rel=1e-3)

    def absent(name, **_):
        raise ValueError("sotu 1.0 cannot be downloaded: no network")

    monkeypatch.setattr(corpora, "fixed", absent)
    monkeypatch.setattr(load, "load", lambda *a: pytest.fail("work was started"))
    assert "no network" in refused(sizewise, folder)


def test_windows_are_spread_evenly_and_never_repeat():
    assert quantize._spread(10, 5) == [1, 3, 5, 7, 9]
    assert quantize._spread(3, 5) == [0, 1, 2]
    for number in range(1, 40):
        for limit in range(1, 40):
            subset = quantize._spread(number, limit)
            assert sorted(set(subset)) == subset
            assert len(subset) == min(number, limit)
            assert 0 <= subset[0] <= subset[-1] < number
            steps = np.diff(subset)
            assert not len(steps) or steps.max() - steps.min() <= 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["./nothing"], "no such file or folder"),
        (["./nothing.gguf"], "no such file"),
        (["llama-3.1-8b"], "the catalogue has its configuration and not its weights"),
        (["smolm2-135m"], "did you mean 'smollm2-135m'"),
        (["nobody/no-such-model"], "neither in the catalogue nor fetched from the hub"),
        (["x", "--format", "nf5"], "unknown weight format 'nf5'; did you mean 'nf4'"),
        (["x", "--device", "mps"], "tried on cpu and cuda"),
        (["x", "--dtype", "fp64"], "unknown dtype 'fp64'"),
        (["x", "--context", "1"], "context must be from 2"),
        (["x", "--windows", "0"], "windows must be from 1"),
        (["x", "--text", "no-such.txt"], "no-such.txt: cannot be read"),
        ([], "Missing argument"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_bad_options_are_one_line_before_any_work(sizewise, monkeypatch, args, message):
    monkeypatch.setattr(load, "load", lambda *a: pytest.fail("work was started"))
    code, out, err = sizewise("quantize", *args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def refused(sizewise, *args):
    code, out, err = sizewise("quantize", *args)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_a_folder_that_is_no_model_is_refused(sizewise, folder, tmp_path, text):
    (tmp_path / "empty").mkdir()
    assert "no such file" in refused(sizewise, tmp_path / "empty")
    assert "is no model folder" in refused(sizewise, text)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"a pickle")
    assert "no weights in safetensors" in refused(sizewise, tmp_path / "bare")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model_type": "own", "architectures": [], "auto_map": {"AutoModel": "evil.Model"}},
            "has no class for",
        ),
        ({"architectures": ["LlamaModel"]}, "LlamaModel is no causal language model"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantized already"),
        ({"num_hidden_layers": 3}, "tensors are missing, such as model.layers.2"),
        ({"hidden_size": -1}, "hidden_size = -1"),
    ],
    ids=["code", "encoder", "quantized", "missing", "negative"],
)
def test_a_model_that_cannot_be_taken_is_refused(sizewise, folder, tmp_path, text, fields, message):
    built = changed(folder, tmp_path, **fields)
    assert message in refused(sizewise, built, "--text", text)


def test_code_that_a_configuration_names_is_not_used_and_reported(sizewise, folder, tmp_path, text):
    built = changed(folder, tmp_path, auto_map={"AutoModelForCausalLM": "evil.Model"})
    (built / "evil.py").write_text("raise SystemExit('it was run')")
    code, out, _ = sizewise("quantize", built, "--text", text, "--windows", 2, "--json")
    assert code == 0
    assert any(
        "auto_map) was not fetched, read or run" in note for note in json.loads(out)["notes"]
    )


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """The hub as a function of what a repository's configuration and its list of files say."""
    import huggingface_hub
    from sizewise.models import config as configs

    def say(files, **fields):
        file = tmp_path / "config.json"
        file.write_text(json.dumps(json.loads((folder / "config.json").read_text()) | fields))
        listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename=item) for item in files])
        monkeypatch.setattr(configs, "hub_answers", lambda: True)
        monkeypatch.setattr(configs, "_from_hub", lambda name: file)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: listed)
        monkeypatch.setattr(load, "load", lambda *a: pytest.fail("it was fetched"))

    return say


@pytest.mark.parametrize(
    ("files", "fields", "message"),
    [
        (["model.safetensors"], {"architectures": ["BertModel"]}, "is no causal language model"),
        (["model.safetensors"], {"quantization_config": {"quant_method": "gptq"}}, "is quantized"),
        (["pytorch_model.bin", "unet/model.safetensors"], {}, "no weights of it in safetensors"),
    ],
    ids=["encoder", "quantized", "pickle"],
)
def test_a_hub_id_is_refused_before_its_weights_are_fetched(sizewise, hub, files, fields, message):
    hub(files, **fields)
    assert message in refused(sizewise, "someone/a-model")


def test_a_hub_id_that_can_be_taken_is(hub, monkeypatch):
    import huggingface_hub

    hub(["config.json", "model-00001-of-00002.safetensors"])
    result = load.find("someone/a-model")
    assert (result.kind, result.parameters) == ("hub", 166_208)

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    assert load.find("someone/a-model") == result


def test_broken_weights_are_one_line(sizewise, folder, tmp_path, text):
    built = changed(folder, tmp_path)
    next(built.glob("*.safetensors")).write_bytes(b"nothing")
    assert "cannot be loaded" in refused(sizewise, built, "--text", text)


def test_too_little_memory_is_refused_before_anything_is_loaded(sizewise, folder, monkeypatch):
    monkeypatch.setattr(load, "free", lambda device: 500_000)
    monkeypatch.setattr(load, "load", lambda *a: pytest.fail("it was loaded"))
    err = refused(sizewise, folder)
    assert "needs 665 kB to be loaded in fp32, and 500 kB are free on cpu" in err
    monkeypatch.setattr(load, "load", lambda *a: (_ for _ in ()).throw(ValueError("loaded")))
    assert "loaded" in refused(sizewise, folder, "--dtype", "bf16")


def test_memory_is_reckoned_from_the_parameters(folder):
    result = load.find(str(folder))
    model = load.load(result)[0]
    assert result.parameters == sum(item.numel() for item in model.parameters())
    assert load.needed(result, "bf16") == 2 * result.parameters
    gguf = dataclasses.replace(result, kind="gguf")
    assert load.needed(gguf, "bf16") == 4 * result.parameters  # as it was read, and as a model
    assert load.free("cpu") > 0


def test_a_text_that_is_none_is_refused(sizewise, folder, tmp_path):
    for content, printed in (
        (b"\xff\xfe\x00", "no UTF-8"),
        (b" \n", "no text"),
        (b"short", "no text"),
    ):
        (tmp_path / "bad.txt").write_bytes(content)
        assert printed in refused(sizewise, folder, "--text", tmp_path / "bad.txt")


def test_a_text_shorter_than_a_window_is_refused_before_loading(
    sizewise, folder, text, monkeypatch
):
    monkeypatch.setattr(load, "load", lambda *a: pytest.fail("it was loaded"))
    text.write_text("The quick brown fox. " * 3)
    err = refused(sizewise, folder, "--text", text, "--context", 64)
    assert "no text has the 64 tokens of a window" in err


def test_the_tokenizer_and_the_positions_are_read_without_the_weights(folder):
    tokenizer, positions = load.reader(load.find(str(folder)))
    assert positions == 64
    assert tokenizer("a")["input_ids"] == load.load(load.find(str(folder)))[1]("a")["input_ids"]


def test_a_gguf_file_says_what_it_stores(sizewise, tmp_path, text):
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    file = tmp_path / "tiny.gguf"
    small_gguf(gguf, file)
    code, out, err = sizewise("quantize", file, "--text", text, "--context", 16, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["kind"] == "gguf"
    kinds = {item["type"]: item["bits"] for item in result["file"]["types"]}
    assert kinds == {"Q8_0": 8.5, "F32": 32}
    assert 8.5 < result["file"]["bits"] < 32


def small_gguf(gguf, file):
    """A llama of one layer with a byte-level tokenizer."""
    from tokenizers import pre_tokenizers

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(258)
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<eos>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(257)
    draw, kind = np.random.default_rng(0), gguf.GGMLQuantizationType.Q8_0
    shapes = {"token_embd": (258, 64), "output": (258, 64)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes[f"blk.0.{name}"] = (64, 64)
    shapes |= {"blk.0.ffn_up": (96, 64), "blk.0.ffn_gate": (96, 64), "blk.0.ffn_down": (64, 96)}
    for name, shape in shapes.items():
        values = (draw.standard_normal(shape) / 8).astype(np.float32)
        quantized = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"{name}.weight", quantized, raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
