"""`sizewise memory` and `sizewise roofline` as people and programs call them."""

import json

import pytest


def test_memory_gives_the_bytes_worked_by_hand(sizewise):
    words = ("memory", "llama-3.1-8b", "--context", 8192, "--batch", 4, "--device", "H100")
    code, out, err = sizewise(*words, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["weights_bytes"] == 2 * 8_030_261_248
    assert found["kv_bytes"] == 4 * 8192 * 2 * 32 * 8 * 128 * 2
    parts = ("weights_bytes", "kv_bytes", "activation_bytes")
    assert found["total_bytes"] == sum(found[part] for part in parts)
    assert found["fits"] is True
    assert found["devices"] == 1


def test_a_model_that_does_not_fit_says_how_many_devices_hold_it(sizewise):
    code, out, _ = sizewise("memory", "llama-3.1-405b", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["fits"] is False
    evenly = -(-found["total_bytes"] // 72_000_000_000)  # nine tenths of 80 GB
    assert evenly <= found["devices"] <= evenly + 2


def test_a_config_file_is_taken_like_a_name(sizewise, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    code, out, _ = sizewise("memory", file, "--weights", "fp8", "--kv", "fp8", "--json")
    assert code == 0
    assert json.loads(out)["kv_bytes"] == 8192 * 2 * 2 * 32 * 128


def test_roofline_decode_is_bytes_over_bandwidth(sizewise):
    words = ("roofline", "llama-3.1-8b", "--context", 1, "--price", "2:3", "--json")
    code, out, _ = sizewise(*words)
    found = json.loads(out)
    decode = found["decode"]
    # All weights but the input embedding, of which a row is read, and one token's cache.
    read = 2 * (8_030_261_248 - 525_336_576 + 4096) + 131_072
    assert code == 0
    assert decode["floor_ms_per_token"] == pytest.approx(1e3 * read / 3.35e12, rel=1e-6)
    assert decode["bound"] == "memory"
    hours = decode["floor_ms_per_token"] / 3.6e6
    assert decode["dollars_per_million_tokens"] == pytest.approx([2e6 * hours, 3e6 * hours])
    assert decode["joules_per_million_tokens"] == pytest.approx(700 * 3600e6 * hours)
    assert found["prefill"]["assumptions"]


@pytest.mark.parametrize("command", ["memory", "roofline"])
@pytest.mark.parametrize(
    ("words", "said"),
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
        (["no/such/config.json"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(sizewise, command, words, said):
    code, out, err = sizewise(command, *words)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("price", ["cheap", "1:2:3", "-2", "3:2", "nan"])
def test_a_price_that_is_none_is_refused(sizewise, price):
    code, _, err = sizewise("roofline", "gpt2", "--price", price)
    assert code == 2
    assert err.count("\n") == 1
