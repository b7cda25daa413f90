"""`sizewise memory` and `sizewise roofline` as people and programs call them."""

import json

import pytest
from conftest import run_python
from sizewise import paths


def test_memory_gives_the_bytes_worked_by_hand(sizewise):
    args = ("memory", "llama-3.1-8b", "--context", 8192, "--batch", 4, "--device", "H100")
    code, out, err = sizewise(*args, "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["weights_bytes"] == 2 * 8_030_261_248
    assert result["kv_bytes"] == 4 * 8192 * 2 * 32 * 8 * 128 * 2
    parts = ("weights_bytes", "kv_bytes", "activation_bytes")
    assert result["total_bytes"] == sum(result[part] for part in parts)
    assert result["fits"] is True
    assert result["devices"] == 1


def test_a_model_that_does_not_fit_says_how_many_devices_hold_it(sizewise):
    code, out, _ = sizewise("memory", "llama-3.1-405b", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["fits"] is False
    evenly = -(-result["total_bytes"] // 72_000_000_000)  # nine tenths of 80 GB
    assert evenly <= result["devices"] <= evenly + 2


def test_a_config_file_is_taken_like_a_name(sizewise, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    args = ("memory", file, "--weights", "fp8", "--kv", "fp8", "--json")
    code, out, _ = sizewise(*args, "--context", "8k")
    assert code == 0
    assert json.loads(out)["kv_bytes"] == 8192 * 2 * 2 * 32 * 128
    plain = json.loads(sizewise(*args).out)
    assert plain["context"] == 2048
    assert "its longest context is not stated: its class's default is 2,048" in plain["assumptions"]


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("whisper-large-v3-hub", 448), ("t5-small-hub", 512), ("gpt2-xl", 1024), ("qwen3-8b", 8192)],
)
def test_without_a_context_it_is_8192_or_the_models_longest(sizewise, tmp_path, model, tokens):
    if model.endswith("-hub"):
        rows = json.loads((paths.root() / "data" / "conformance.json").read_text())["models"]
        file = tmp_path / "config.json"
        row = next(row for row in rows if row["name"].endswith(model))
        file.write_text(json.dumps(row["config"]))
        model = file
    _, out, err = sizewise("memory", model, "--json")
    assert (json.loads(out)["context"], err) == (tokens, "")
    args = f"a context of {tokens:,} tokens, since none is stated"
    assert args in json.loads(out)["assumptions"]


def test_roofline_decode_is_bytes_over_bandwidth(sizewise):
    args = ("roofline", "llama-3.1-8b", "--context", 1, "--price", "2:3", "--json")
    code, out, _ = sizewise(*args)
    result = json.loads(out)
    decode = result["decode"]
    # All weights but the input embedding, of which a row is read, and one token's cache.
    bytes_read = 2 * (8_030_261_248 - 525_336_576 + 4096) + 131_072
    assert code == 0
    assert decode["floor_ms_per_token"] == pytest.approx(1e3 * bytes_read / 3.35e12, rel=1e-6)
    assert decode["bound"] == "memory"
    hours = decode["floor_ms_per_token"] / 3.6e6
    assert decode["dollars_per_million_tokens"] == pytest.approx([2e6 * hours, 3e6 * hours])
    assert decode["joules_per_million_tokens"] == pytest.approx(700 * 3600e6 * hours)
    assert result["prefill"]["assumptions"]


@pytest.mark.parametrize("command", ["memory", "roofline"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["llama-3.1-8b", "--context", "-1"], "context must be from 1"),
        (["llama-3.1-8b", "--context", "0"], "context must be from 1"),
        (["llama-3.1-8b", "--context", "10000000000000"], "context must be from 1"),
        (["llama-3.1-8b", "--context", "1.5"], "context must be a whole number"),
        (["llama-3.1-8b", "--batch", "-3"], "batch must be from 1"),
        (["llama-3.1-8b", "--device", "H1000"], "did you mean 'H100'"),
        (["llama-3.1-8b", "--weights", "nf5"], "did you mean 'nf4'"),
        (["llama-3.1-8b", "--kv", "fp9"], "did you mean 'fp8'"),
        (["llama-3.1-8x"], "did you mean 'llama-3.1-8b'"),
        (["llama-3.1-8b", "--batch", "1e9"], "batch"),
        (["llama-3.1-8b", "--batch", 1 << 40], "batch must be from 1 to"),
        (["llama-3.1-8b", "--context", "4096M"], "context must be from 1 to"),
        (["no/such/config.json"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(sizewise, command, args, message):
    code, out, err = sizewise(command, *args)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--devices", "--concurrency", "--input", "--output"])
def test_negative_numbers_of_a_floor_are_refused(sizewise, option):
    for number in ("-1", "99999999999999"):
        code, out, err = sizewise("roofline", "gpt2", option, number)
        assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("price", ["cheap", "1:2:3", "-2", "3:2", "nan"])
def test_a_price_that_is_none_is_refused(sizewise, price):
    code, _, err = sizewise("roofline", "gpt2", "--price", price)
    assert code == 2
    assert err.count("\n") == 1


# ---- the planner


def test_each_device_has_a_line(sizewise):
    args = ("memory", "qwen3-32b", "--weights", "q4_k_m", "--gpus", 2, "--device", "4090")
    out = sizewise(*args).out
    assert "RTX-4090 0" in out
    assert "RTX-4090 1" in out


def test_pipeline_stages_and_experts_are_shared_out(sizewise):
    args = ("memory", "deepseek-v3", "--device", "H200", "--gpus", 16, "--tp", 8, "--pp", 2)
    first, last = json.loads(sizewise(*args, "--json").out)["loads"]
    assert (first["layers"], last["layers"]) == (31, 30)
    args = ("memory", "deepseek-v3", "--device", "H200", "--gpus", 8, "--tp", 1, "--ep", 8)
    (load,) = json.loads(sizewise(*args, "--json").out)["loads"]
    assert load["weights_bytes"] < 671e9 / 6  # experts over eight, the rest on each


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("deepseek-v3", "--tp", 6), "4 and 8 do"),
        (("llama-3.1-8b", "--gpus", 3), "32 attention heads do not divide by TP 3; 2 and 4 do"),
        (("llama-3.1-8b", "--ep", 2), "no routed experts"),
        (("deepseek-v3", "--gpus", 8, "--ep", 3), "256 experts do not divide by EP 3; 2 and 4 do"),
        (("llama-3.1-8b", "--gpus", 4, "--pp", 3), "do not make 3 equal pipeline stages"),
        (("llama-3.1-8b", "--context", "32x"), "context takes 8192, 32k, 128Ki or 1M"),
        (("llama-3.1-8b", "--offload", "fast"), "a link is written 50GB/s"),
        (("llama-3.1-8b", "--usable", "1.5"), "usable share of memory"),
        (("llama-3.1-8b", "--gpus", 0), "devices must be from 1 to 1024, got 0"),
        (("llama-3.1-8b", "--gpus", 10**9), "devices must be from 1 to 1024"),
        (("llama-3.1-8b", "--tp", 0), "tensor parallel must be from 1 to 1024, got 0"),
        (("llama-3.1-8b", "--tp", -2), "tensor parallel must be from 1 to 1024"),
        (("llama-3.1-8b", "--pp", 0), "pipeline parallel must be from 1"),
        (("mixtral-8x7b", "--ep", 0), "expert parallel must be from 1"),
        (("llama-3.1-8b", "--train", "lora", "--rank", 0), "rank must be from 1"),
        (("llama-3.1-8b", "--train", "full", "--gpus", 8), "--train is reckoned for one device"),
        (("llama-3.1-8b", "--train", "full", "--device", "all"), "--train is reckoned for one"),
        (("llama-3.1-8b", "--rank", 8), "need --train"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_with_what_can(sizewise, args, message):
    code, out, err = sizewise("memory", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_what_fits_fits_and_one_more_does_not(sizewise):
    args = ("memory", "llama-3.1-8b", "--device", "4090", "--context", "8k", "--json")
    fit = json.loads(sizewise(*args, "--fit").out)["fit"]
    requests = fit["most_requests"]
    for batch, fits in ((requests, True), (requests + 1, False)):
        assert json.loads(sizewise(*args, "--batch", batch).out)["fits"] is fits
    assert fit["best_format"] == "bf16"
    assert "largest context for 1 request: " in sizewise(*args[:-1], "--fit").out
    longest = fit["largest_context"]
    context_args = ("memory", "llama-3.1-8b", "--device", "4090", "--json", "--context")
    assert json.loads(sizewise(*context_args, longest).out)["fits"] is True
    if fit["limited_by"] == "memory":
        assert json.loads(sizewise(*context_args, longest + 1).out)["fits"] is False


def test_one_table_over_all_devices(sizewise):
    rows = json.loads(sizewise("memory", "llama-3.1-70b", "--device", "all", "--json").out)
    assert {row["fits"] for row in rows} == {True, False}
    for row in rows:
        assert row["fits"] == (row["devices"] == 1)


def test_weights_that_do_not_fit_stay_in_host_memory(sizewise):
    args = ("memory", "llama-3.1-70b", "--device", "H100", "--offload", "50GB/s", "--json")
    result = json.loads(sizewise(*args).out)
    (load,) = result["loads"]
    assert load["total_bytes"] <= load["room_bytes"]
    assert load["weights_bytes"] + load["host_bytes"] == 141_107_412_992
    assert result["offload_ms_a_token"] == pytest.approx(load["host_bytes"] / 50e9 * 1e3)


@pytest.mark.parametrize(("text", "tokens"), [("32k", 32768), ("128Ki", 131072), ("1M", 2**20)])
def test_a_context_may_have_a_suffix(sizewise, text, tokens):
    result = json.loads(sizewise("memory", "llama-3.1-8b", "--context", text, "--json").out)
    assert result["context"] == tokens
    assert f"{text} read as {tokens:,} tokens" in result["assumptions"]


def test_what_is_assumed_is_a_line_and_a_field(sizewise):
    result = json.loads(sizewise("memory", "llama-3.1-8b", "--json").out)
    assumed = " ".join(result["assumptions"])
    for mark in ("weights in bf16", "90% of each device", "prompt tokens in flight"):
        assert mark in assumed
    text = sizewise("memory", "llama-3.1-8b").out
    assert all(note in text for note in result["assumptions"])


def test_the_listed_price_stands_beside_the_floors(sizewise):
    out = sizewise("roofline", "deepseek-v3.2", "--device", "H200").out
    assert "listed by deepseek: $" in out


@pytest.mark.parametrize(
    "args",
    [
        ["count", "deepseek-v3"],
        ["memory", "llama-3.1-8b"],
        ["memory", "deepseek-v3", "--device", "H200", "--gpus", "8", "--fit"],
        ["roofline", "kimi-k3", "--device", "B200"],
        ["memory", "qwen3-8b", "--train", "qlora"],
        ["memory", "qwen3-8b", "--weights", "q4_k_m"],
    ],
)
def test_a_model_of_the_catalogue_costs_no_heavy_import(args):
    code = (
        "import contextlib, io, sys\n"
        "from sizewise.cli.main import main\n"
        f"sys.argv = ['sizewise', *{args!r}]\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
    )
    process = run_python("-c", code)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "[]"


def test_unified_memory_leaves_the_system_its_part(sizewise):
    result = json.loads(sizewise("memory", "llama-3.1-8b", "--device", "m4 max", "--json").out)
    assert result["usable"] == 0.75
    assert result["loads"][0]["room_bytes"] == 96_000_000_000


def test_both_figures_of_a_devices_memory_are_shown(sizewise):
    result = json.loads(sizewise("memory", "llama-3.1-8b", "--device", "H100", "--json").out)
    assert any("80 GB; the driver shows 85.5 GB" in note for note in result["assumptions"])
