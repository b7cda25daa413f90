"""Configurations from outside: what is taken, and one clear line for everything that is not."""

import json
import sys

import pytest
from conftest import run_python
from sizewise.costs import memory
from sizewise.data import catalog
from sizewise.models import config, parameters

LLAMA = {
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 50,
}
PARAMETERS = 2 * 101 * 24 + 2 * (2 * 24 * 24 + 2 * 24 * 12 + 3 * 24 * 50 + 2 * 24) + 24


@pytest.fixture
def write(tmp_path):
    """A function that writes a configuration, given as fields, text or bytes."""

    def written(content, name="config.json"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict | list):
            content = json.dumps(content)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return written


def refusal(model, **options) -> str:
    """The one line with which a model is refused when it is loaded and counted."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the callers look at the words
        parameters.count(config.load(model, **options))
    message = str(error.value)
    assert message
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    return message


class TestWhatIsTaken:
    def test_a_file_its_folder_and_a_path_are_the_same_model(self, write, monkeypatch):
        file = write(LLAMA, "model/config.json")
        monkeypatch.chdir(file.parent.parent)
        for way in (file, str(file), file.parent, "model", "./model", "model/config.json"):
            assert parameters.count(way).total == PARAMETERS

    def test_a_name_of_the_catalogue_is_that_entry(self):
        spec = config.load("gpt2")
        assert spec.source == "catalogue"
        assert spec.fields == catalog.model("gpt2").config

    def test_a_spec_is_left_as_it_is(self):
        spec = config.Spec("mine", LLAMA)
        assert config.load(spec) is spec
        assert parameters.count(spec).model == "mine"

    @pytest.mark.parametrize(
        "extra",
        [
            {"torch_dtype": "bfloat16"},
            {"dtype": "float8_e4m3fn"},
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            {"attn_implementation": "flash_attention_2"},
            {"_attn_implementation_internal": "sdpa"},
            {"a_field_nobody_knows": {"deep": [1, {"er": None}]}},
            {"transformers_version": "4.0.0"},
        ],
    )
    def test_how_weights_are_stored_or_run_changes_no_count(self, write, extra):
        assert parameters.count(write(LLAMA | extra)).total == PARAMETERS

    def test_a_layer_named_from_the_end_is_no_negative_size(self, write):
        nested = {"model_type": "llava", "vision_feature_layer": -2, "text_config": LLAMA}
        assert parameters.count(write(nested)).total > PARAMETERS

    def test_limits_refuse_no_default_configuration_of_transformers(self, tmp_path):
        import transformers

        def without_backbone(fields):  # that is refused, whatever its size
            return {name: value for name, value in fields.items() if name != "backbone"}

        checked = 0
        for model_type, config_class in transformers.CONFIG_MAPPING.items():
            try:
                content = config_class().to_json_string(use_diff=False)
            except Exception:  # noqa: S112 - a default that its own class refuses
                continue
            fields = json.loads(content, object_hook=without_backbone)
            (tmp_path / "config.json").write_text(json.dumps(fields | {"model_type": model_type}))
            config.load(tmp_path)
            checked += 1
        assert checked > 500

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_a_file_as_windows_writes_it(self, write, encoding):
        text = json.dumps(LLAMA, indent=1).replace("\n", "\r\n")
        assert parameters.count(write(text.encode(encoding))).total == PARAMETERS


class TestFilesThatAreNoConfiguration:
    def test_a_missing_file_is_named(self, tmp_path):
        assert refusal(tmp_path / "config.json") == f"no such file: {tmp_path}/config.json"

    def test_a_folder_without_a_configuration_is_named(self, tmp_path, monkeypatch):
        assert refusal(tmp_path) == f"no such file: {tmp_path}/config.json"
        (tmp_path / "org" / "model").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)  # "org/model" could be a hub id, but here it is a folder
        assert refusal("org/model") == "no such file: org/model/config.json"

    @pytest.mark.parametrize("name", ["~nobody-of-that-name", "/dev/null", "./x", "../x.json"])
    def test_a_path_to_nothing_is_no_such_file(self, name, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        assert refusal(name).startswith("no such file: ")

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            ("", "not JSON"),
            ('{"model_type": "llama", ', "not JSON"),
            ("model_type: llama", "not JSON"),
            (bytes(range(256)), "not JSON"),
            ("[" * 100_000 + "]" * 100_000, "not JSON"),
            ('{"model_type": "llama", "num_hidden_layers": ' + "1" * 5000 + "}", "not JSON"),
            ('{"model_type": "llama", "x": ' + '{"a":' * 500 + "1" + "}" * 501, "nested over"),
            ('{"model_type": "llama", "x": ' + "[" * 100 + "]" * 100 + "}", "nested over"),
            ([LLAMA], "no model configuration"),
            ("3", "no model configuration"),
            ("null", "no model configuration"),
            ({"hidden_size": 24}, "no model configuration"),
            ({"model_type": 5}, "no model configuration"),
            ({"model_type": None}, "no model configuration"),
        ],
    )
    def test_content_is_refused_with_the_name_of_the_file(self, write, content, part):
        file = write(content)
        message = refusal(file)
        assert message.startswith(f"{file}: ")
        assert part in message

    def test_a_huge_file_is_not_read(self, write):
        message = refusal(write('{"model_type": "llama", "x": "' + "y" * 10_000_000 + '"}'))
        assert "over 10 MB" in message

    def test_a_file_that_may_not_be_read_is_named(self, write, monkeypatch):
        file = write(LLAMA)

        def refuse(*_, **__):  # root may read every file
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
        assert "cannot be read" in refusal(file)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "nearest"),
        [
            ("llama-3.1-8B", "llama-3.1-8b"),
            ("mixtral-8x7", "mixtral-8x7b"),
            ("kimi k2", "kimi-k2"),
            ("deepseekv3", "deepseek-v3"),
        ],
    )
    def test_an_unknown_name_comes_with_the_nearest_one(self, name, nearest):
        assert refusal(name) == f"unknown model {name!r}; did you mean {nearest!r}?"

    @pytest.mark.parametrize(
        "name",
        [
            "bge-m3",
            "openelm",
            "llama-3.1-80b",
            "llama-3-8b",
            "qwen3-14b",
            "phi-4",
            "deepseek-v2",
            "gemma-3n-e4b",
            "falcon-7b",
            "whisper-large-v3",
            "t5-small",
        ],
    )
    def test_a_name_of_another_model_is_never_suggested(self, name):
        assert "did you mean" not in refusal(name)

    @pytest.mark.parametrize("name", ["", "\0", "a/b/c", "§§§", "x" * 5000])
    def test_what_no_model_could_be_called_is_unknown(self, name):
        assert refusal(name).startswith("unknown model ")

    def test_an_unknown_model_type_is_refused_and_no_other_model_is_named(self, write):
        message = refusal(write(LLAMA | {"model_type": "lama"}))
        assert "has no class for model_type 'lama' (--estimate " in message
        assert parameters.count(config.load(write(LLAMA | {"model_type": "lama"}), estimate=True))

    def test_a_hub_id_without_a_network_is_refused_in_one_line(self):
        code = (
            "from sizewise.models import config\n"
            "try:\n    config.load('nobody/no-such-model')\n"
            "except ValueError as error:\n    print(error)\n"
        )
        process = run_python("-c", code, HF_HUB_OFFLINE="1", HF_HOME="/nonexistent")
        assert process.returncode == 0, process.stderr
        assert process.stdout.count("\n") == 1
        assert process.stdout.startswith("nobody/no-such-model: neither in the catalogue nor ")

    @pytest.mark.parametrize("lookup", ["fails", "hangs"])
    def test_a_hub_that_does_not_answer_is_not_waited_for(self, monkeypatch, lookup):
        import socket
        import time

        def connect(*_, **__):
            if lookup == "hangs":
                time.sleep(60)
            raise socket.gaierror("no such host")

        monkeypatch.setattr(socket, "create_connection", connect)
        started = time.perf_counter()
        assert "it does not answer" in refusal("nobody/no-such-model")
        assert time.perf_counter() - started < 5  # two seconds, and a library's import

    def test_a_repository_of_the_conformance_file_needs_no_network(self):
        count = parameters.count("moonshotai/kimi-k2.5")
        assert count.total == 1_026_879_353_328
        spec = config.load("Qwen/Qwen3-VL-8B-Instruct")
        assert (spec.name, spec.source) == ("Qwen/Qwen3-VL-8B-Instruct", "conformance")
        assert any("configuration as of" in note for note in spec.notes)


class TestSizes:
    def test_heads_that_share_no_keys_evenly_are_refused(self, write):
        with pytest.raises(ValueError, match="4 attention heads are no multiple of 3 KV heads"):
            parameters.describe(write(LLAMA | {"num_key_value_heads": 3}))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"num_hidden_layers": 10_001}, "num_hidden_layers = 10001 is over 2,000"),
            ({"num_hidden_layers": 10**20 - 1}, "num_hidden_layers = 99999999999999999999 is over"),
            ({"num_hidden_layers": 10**3000}, "num_hidden_layers = 100000... (3001 digits) is"),
            ({"decoder_layers": 10**7}, "decoder_layers = 10000000 is over 2,000"),
            ({"num_local_experts": 10**9}, "num_local_experts = 1000000000 is over 20,000"),
            ({"depths": [2, 10**7]}, "depths.1 = 10000000 is over 500"),
            ({"num_labels": 10**7}, "num_labels = 10000000 is over 100,000"),
            ({"depths": [3, 9999]}, "depths.1 = 9999 is over 500"),
            ({"hidden_size": 10**13}, "hidden_size = 10000000000000 is over 1,000,000,000,000"),
            ({"anything": -(10**13)}, "anything = -10000000000000 is over"),
            (
                {"text_config": {"num_hidden_layers": 10**20}},
                "text_config.num_hidden_layers = 100000000000000000000 is over 2,000",
            ),
            ({"layers": [{"num_experts": 10**6}]}, "layers.0.num_experts = 1000000 is over"),
            ({"num_hidden_layers": -3}, "num_hidden_layers = -3 is negative"),
            ({"num_hidden_layers": 0}, "num_hidden_layers = 0 is under 1"),
            ({"hidden_size": -24}, "hidden_size = -24 is negative"),
            ({"hidden_size": 0}, "hidden_size = 0 is under 1"),
            ({"vocab_size": 0}, "vocab_size = 0 is under 1"),
            ({"vocab_size": -1}, "vocab_size = -1 is under 1"),
            ({"num_attention_heads": 0}, "num_attention_heads = 0 is under 1"),
            ({"num_key_value_heads": -2}, "num_key_value_heads = -2 is negative"),
            ({"intermediate_size": -50}, "intermediate_size = -50 is negative"),
            ({"head_dim": -6}, "head_dim = -6 is negative"),
            ({"text_config": {"intermediate_size": -1}}, "text_config.intermediate_size = -1 is"),
        ],
    )
    def test_a_number_out_of_range_is_named(self, write, fields, message):
        file = write(LLAMA | fields)
        assert refusal(file).startswith(f"{file}: {message}")

    @pytest.mark.parametrize("value", ["many", "24", 24.5, 1e20, [24], {"a": 1}, None, True])
    @pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size"])
    def test_what_is_no_whole_number_is_refused_by_name(self, write, field, value):
        assert field in refusal(write(LLAMA | {field: value}))

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
    def test_a_number_that_is_not_finite_is_refused(self, write, number):
        text = json.dumps(LLAMA).replace('"hidden_size": 24', f'"hidden_size": {number}')
        assert "hidden_size" in refusal(write(text))

    @pytest.mark.parametrize(
        "fields",
        [
            {"hidden_size": 25},  # no multiple of the heads
            {"num_key_value_heads": 0},
            {"hidden_size": 6 * 10**11, "num_attention_heads": 6},  # a matrix beyond 64 bits
            {"hidden_act": "no such function"},
            {"layer_types": ["full_attention"] * 5, "model_type": "qwen3"},
            {"layer_types": ["no such layer"] * 2, "model_type": "qwen3"},
            {"model_type": "llava", "text_config": "llama"},
            {"model_type": "llava", "text_config": {"model_type": "no such type"}},
        ],
    )
    def test_shapes_that_the_class_refuses_are_refused_in_one_line(self, write, fields):
        file = write(LLAMA | fields)
        assert refusal(file).startswith(f"{file}: ")


CUSTOM = LLAMA | {"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}


@pytest.mark.parametrize(
    "fields",
    [
        CUSTOM | {"head_dim": "x"},
        CUSTOM | {"v_head_dim": [1, 2]},
        CUSTOM
        | {
            "num_attention_heads": 4,
            "num_key_value_heads": {},
            "kv_lora_rank": 8,
            "q_lora_rank": "x",
        },
        CUSTOM | {"text_config": LLAMA | {"intermediate_size": "wide"}},
        CUSTOM | {"ffn_multipliers": ["x", "y"]},
        LLAMA | {"text_config": {"model_type": {}}},
        LLAMA | {"architectures": 1, "model_type": "lama"},
    ],
)
def test_a_field_of_a_wrong_type_is_one_line(write, fields):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parameters.describe(write(fields))


NAMED = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
EVIL = "from pathlib import Path\nPath({marker!r}).write_text('run')\nclass Evil: pass\n"


class TestCodeInConfigurations:
    @pytest.fixture
    def marker(self, tmp_path):
        """A file that exists if any code beside the configuration was run."""
        marker = tmp_path / "code-was-run"
        for name in ("evil.py", "configuration_evil.py", "modeling_evil.py"):
            (tmp_path / name).write_text(EVIL.format(marker=str(marker)))
        return marker

    @pytest.mark.parametrize(
        "fields",
        [
            LLAMA | {"auto_map": NAMED},
            LLAMA | {"auto_map": "evil.Evil"},
            {"model_type": "llava", "text_config": LLAMA | {"auto_map": NAMED}},
            LLAMA | {"parts": [{"auto_map": NAMED}]},
        ],
    )
    def test_code_that_a_configuration_names_is_never_run(self, write, marker, monkeypatch, fields):
        file = write(fields)
        monkeypatch.chdir(file.parent)
        monkeypatch.syspath_prepend(file.parent)
        spec = config.load(file)
        assert any("auto_map" in note for note in spec.notes)
        config.build(spec)
        assert not marker.exists()
        assert not {"evil", "configuration_evil", "modeling_evil"} & sys.modules.keys()

    def test_a_known_type_is_counted_with_the_class_of_transformers(self, write, marker):
        count = parameters.count(write(LLAMA | {"auto_map": NAMED, "architectures": ["Evil"]}))
        assert count.built_as == "LlamaForCausalLM"
        assert count.total == PARAMETERS
        assert any("was not fetched, read or run" in note for note in count.assumptions)
        assert not marker.exists()

    def test_an_unknown_type_that_names_code_is_an_estimate_and_says_so(self, write, marker):
        count = parameters.count(write(LLAMA | {"model_type": "evil", "auto_map": NAMED}))
        assert count.estimated
        assert any(note.startswith("an estimate") for note in count.assumptions)
        assert not marker.exists()

    def test_an_empty_map_names_no_code(self, write):
        assert parameters.count(write(LLAMA | {"auto_map": {}})).total == PARAMETERS
        assert parameters.count(write(LLAMA | {"auto_map": None})).total == PARAMETERS

    def test_another_model_is_not_fetched(self, write):
        message = refusal(write({"model_type": "dpt", "backbone": "somebody/some-model"}))
        assert "names another model (backbone), which is not fetched" in message


# The released LongCat-Flash-Chat: 560.66e9 without its layer for multi-token prediction; the class
# of transformers 5.23 keeps rows for the 256 experts without weights, and gave 741e9.
LONGCAT = {
    "model_type": "longcat_flash",
    "expert_ffn_hidden_size": 2048,
    "ffn_hidden_size": 12288,
    "hidden_size": 6144,
    "kv_lora_rank": 512,
    "moe_topk": 12,
    "n_routed_experts": 512,
    "num_attention_heads": 64,
    "num_layers": 28,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 131072,
    "zero_expert_num": 256,
}
# xai-org/grok-2 states the type of an image captioner; its experts alone have 154e9.
GROK = {
    "architectures": ["Grok1ForCausalLM"],
    "model_type": "git",
    "hidden_size": 8192,
    "intermediate_size": 32768,
    "moe_intermediate_size": 16384,
    "num_attention_heads": 64,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "vocab_size": 131072,
}
# liuhaotian/llava-v1.5-13b in its makers' first form: all of it beside the class's text_config.
LLAVA = LLAMA | {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"]}


class TestWhatAClassDoesNotRead:
    def test_experts_without_weights_have_none(self, write):
        count = parameters.count(write(LONGCAT))
        assert round(count.total / 1e9, 2) == 560.66
        assert round(count.active_without_input_embedding / 1e9, 1) == 31.4  # the paper: to 31.3
        assert "active: at most" in " ".join(count.assumptions)

    @pytest.mark.parametrize(("fields", "field"), [(GROK, "experts"), (LLAVA, "hidden_size")])
    def test_a_class_that_leaves_out_what_is_stated_is_not_counted(self, write, fields, field):
        file = write(fields)
        assert field in refusal(file)
        count = parameters.count(config.load(file, estimate=True))
        assert count.estimated
        assert count.total > 150e9 if fields is GROK else count.total == PARAMETERS

    @pytest.mark.parametrize(
        ("fields", "values"),  # keys and values of a token, in heads of 6
        [
            ({}, 2 * 2 * 2 * 6),
            ({"num_key_value_heads": None, "num_attention_groups": 1}, 2 * 2 * 6),  # Step-3
            ({"use_cla": True, "cla_share_factor": 2}, 2 * 2 * 6),  # Hunyuan-Large
        ],
    )
    def test_keys_that_are_shared_are_kept_once_in_an_estimate(self, write, fields, values):
        custom = {"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}
        model = parameters.describe(write(LLAMA | custom | fields))
        assert memory.kv_bytes_per_token(model) == 2 * values

    def test_the_state_of_an_rwkv_without_a_class_is_no_cache_of_attention(self, write):
        file = write(LLAMA | {"model_type": "rwkv7", "auto_map": {"AutoConfig": "code.Config"}})
        assert parameters.count(file).estimated
        with pytest.raises(ValueError, match="rwkv7: its cache is not described here"):
            parameters.describe(file)

    def test_a_class_that_transformers_does_not_have_is_named(self, write):
        draft = write(LLAMA | {"architectures": ["LlamaForCausalLMEagle3"]})
        notes = parameters.count(draft).assumptions
        assert notes == ("transformers has no LlamaForCausalLMEagle3: counted as LlamaForCausalLM",)
        for name in ("LlamaModel", "LLaMA_ForCausalLM"):  # as some files write them
            assert not parameters.count(write(LLAMA | {"architectures": [name]})).assumptions

    def test_what_was_assumed_of_several_models_is_printed_with_each(self, write, sizewise):
        file = write({"model_type": "gpt2"})
        out = sizewise("count", "gpt2", file).out
        assert f"  assumed: {file}: by default of its class: hidden_size 768, " in out
        assert out.count("  assumed: ") == 1

    def test_sizes_that_come_from_a_class_are_named(self, write):
        (note,) = parameters.count(write({"model_type": "gpt2", "n_embd": 1536})).assumptions
        assert note == (
            "by default of its class: num_hidden_layers 12, num_attention_heads 12, "
            "vocab_size 50,257"
        )
        assert not parameters.count(write(LLAMA)).assumptions
