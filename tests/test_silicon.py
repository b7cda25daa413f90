"""Kernel fits, rules on rows, and the forecast: against known generators and hand counts."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sizewise import paths
from sizewise.chapters.tables import floor_and_silicon
from sizewise.costs import energy, forecast, kernel_fits, roofline
from sizewise.data import catalog, records
from sizewise.models import parameters

sys.path.insert(0, str(paths.root() / "scripts"))
import silicon
import silicon_servings as servings
from common import kernel_tables

H100 = catalog.device("H100")
CHIP = silicon.chip_of(H100)
TRUE = {
    "launch": 4e-6,
    "bandwidth": 0.8,
    "peak": 0.7,
    "sharpness": 2.0,
    "reduction": 2e-10,
    "waves": 0.3,
}


@pytest.fixture
def products():
    """A table made by known numbers, with 3 % of noise."""
    sizes = np.array(
        [(m, n, k) for m in 2 ** np.arange(13) for n in (512, 2048, 8192) for k in (1024, 4096)]
    )
    m, n, k = sizes.T.astype(float)
    kind = kernel_fits.KINDS["bf16"]
    exact = kernel_fits.gemm_seconds(
        m, n, k, kind, CHIP.bandwidth, CHIP.peaks["bf16"], CHIP.units, TRUE
    )
    noise = np.exp(np.random.default_rng(0).normal(0, 0.03, len(m)))
    return pd.DataFrame({"m": m, "n": n, "k": k, "seconds": exact * noise})


class TestFits:
    def test_a_known_generator_is_found_again(self, products):
        result = silicon.reduce_gemm(products, "bf16", CHIP)
        for name in ("launch", "bandwidth", "peak"):
            assert result["numbers"][name] == pytest.approx(TRUE[name], rel=0.15)
        assert result["error_median"] < 4

    def test_one_row_of_one_product_by_hand(self):
        numbers = {**TRUE, "sharpness": 8.0, "reduction": 0.0, "waves": 0.0}
        kind = kernel_fits.KINDS["bf16"]
        seconds = kernel_fits.gemm_seconds(1, 8192, 8192, kind, 1e12, 1e15, 132, numbers)
        assert seconds == pytest.approx(4e-6 + (2 * 8192**2 + 4 * 8192) / 0.8e12, rel=1e-6)

    def test_waves_cost_nothing_on_a_full_chip_and_everything_for_one_tile(self):
        assert kernel_fits.unfilled(128 * 132, 128, 132) == 1
        assert kernel_fits.unfilled(1, 1, 132) == 132
        assert kernel_fits.unfilled(128 * 133, 128, 132) == pytest.approx(2 * 132 / 133)

    def test_the_same_half_is_fitted_everywhere(self):
        half = silicon.half(np.arange(4000), np.full(4000, 7))
        assert 0.45 < half.mean() < 0.55
        assert list(half[:8]) == list(silicon.half(np.arange(8), np.full(8, 7)))

    def test_too_few_rows_are_refused(self):
        with pytest.raises(ValueError, match="too few"):
            silicon.fit(silicon.GEMM, lambda i, x: x, np.ones(10))

    def test_experts_that_all_are_reached(self):
        kind = kernel_fits.KINDS["bf16"]
        moved, flops = kernel_fits.moe_parts(10**6, 1024, 512, 2, 8, 1, 1, kind)
        assert moved == pytest.approx(8 * 3 * 1024 * 512 * 2 + 2e6 * (2 * 1024 + 3 * 512) * 2)
        assert flops == 6 * 1024 * 512 * 2e6


class TestRowsOfKernels:
    def test_a_table_timed_from_python_keeps_no_numbers(self, products):
        slow = products.assign(seconds=products["seconds"] + 2e-4)
        result = silicon.reduce_gemm(slow, "bf16", CHIP)
        assert result["rows"] == 0
        assert result["dropped"] == {"host": len(products)}

    def test_small_matrices_and_formats_without_arithmetic_are_dropped(self, products):
        thin = pd.concat([products, products.assign(n=128.0)])
        dropped = silicon.reduce_gemm(thin, "bf16", CHIP)["dropped"]
        assert dropped == {"small": len(products)}
        assert silicon.reduce_gemm(products, "nvfp4", CHIP)["rows"] == 0

    def test_a_cache_that_stays_in_l2_does_not_count(self):
        batch = np.repeat([1, 8, 64, 256], 40)
        step = np.tile(2 ** np.arange(4, 14), 16)
        frame = pd.DataFrame({"batch_size": batch, "step": step, "isl": 1})
        frame["num_heads"] = np.tile([32, 64], 80)
        frame["num_key_value_heads"] = 8
        frame["head_dim"] = 128
        moved = batch * (step + 1.0) * 8 * 128 * 4
        frame["seconds"] = 5e-6 + moved / (0.8 * H100.bandwidth)
        warm = moved <= 1.5 * H100.l2_bytes
        frame.loc[warm & (moved > 5e5), "seconds"] = 1e-6  # from the cache: faster than memory
        result = silicon.reduce_attention(frame, "bf16", CHIP)
        assert result["dropped"]["warm-cache"] == warm.sum()
        assert result["below_floor"] == 0
        assert result["numbers"]["bandwidth"] == pytest.approx(0.8, rel=0.02)

    def test_a_table_faster_than_its_memory_keeps_no_numbers(self):
        frame = pd.DataFrame({"batch_size": np.tile([1, 256], 60), "isl": 1})
        frame["step"] = np.where(frame["batch_size"] == 1, 16, 8191)
        frame["num_heads"] = np.tile(2 ** np.arange(3, 7), 30)
        frame["num_key_value_heads"] = frame["num_heads"] // 4
        frame["head_dim"] = 128
        frame["seconds"] = 2e-6
        result = silicon.reduce_attention(frame, "bf16", CHIP)
        assert result["numbers"] is None
        assert result["dropped"]["below-floor"] > 0

    def test_experts_read_faster_than_memory_drop_their_group(self):
        frame = pd.DataFrame({"num_tokens": 2 ** np.arange(12)}).merge(
            pd.DataFrame({"kernel_source": ["honest", "broken"]}), how="cross"
        )
        for name, value in {
            "hidden_size": 7168,
            "inter_size": 2048,
            "topk": 8,
            "num_experts": 256,
            "moe_tp_size": 1,
            "moe_ep_size": 1,
            "distribution": "balanced",
        }.items():
            frame[name] = value
        kind = kernel_fits.KINDS["fp8"]
        moved, _ = kernel_fits.moe_parts(*silicon.expert_parts(frame, kind), kind)
        slower = np.where(frame["kernel_source"] == "honest", 1.5, 0.6)
        frame["seconds"] = slower * moved / H100.bandwidth
        groups, below, large = silicon.impossible_groups(frame, kind, CHIP)
        assert groups == ["broken/", "broken/7168-2048-8-256"] or set(groups) == {
            "broken/",
            "broken/7168-2048-8-256",
        }
        assert (below, large) == (12, 24)


def served(**changes):
    """One row of the sample, as it stands in the file."""
    row = {
        "id": "llama_h100_sxm_vllm_agg_1024x1024_c8_tp4_ep1_1",
        "silicon_data_source": "source_file=2026-03-25.csv; silicon_concurrency=8; "
        "measured=2026-03-20T00:00:00Z",
        "backend": "vllm",
        "backend_version": "0.19.0",
        "mode": "agg",
        "isl": 1024,
        "osl": 1024,
        "model_path": "meta-llama/Llama-3.1-70B",
        "system": "h100_sxm",
        "precision": "fp8",
        "batch_size": 8.0,
        "tp_size": 4.0,
        "attention_dp_size": 1.0,
        "moe_tp_size": 1.0,
        "moe_ep_size": 1.0,
        "silicon_ttft_ms": 100.0,
        "silicon_tpot_ms": 12.0,
    }
    return row | changes


def parsed(*rows):
    return servings.parse(pd.DataFrame(list(rows)))


class TestRowsOfServings:
    def test_gpus_are_those_of_the_id_not_their_square(self):
        squares = parsed(
            served(tp_size=16.0, moe_tp_size=4.0, moe_ep_size=4.0),
            served(id="x", tp_size=64.0, moe_tp_size=8.0, moe_ep_size=8.0),
            served(id="x", tp_size=2.0, attention_dp_size=8.0, moe_ep_size=8.0),
        )
        assert list(squares["gpus"]) == [4, 8, 8]

    def test_concurrency_is_not_the_batch_column(self):
        row = parsed(served(batch_size=1.0, attention_dp_size=8.0)).iloc[0]
        assert row["concurrency"] == 8

    def test_an_empty_precision_is_bf16(self):
        assert parsed(served(precision=None)).iloc[0]["precision"] == "bf16"

    @pytest.mark.parametrize(
        ("rule", "row"),
        [
            ("plain-checkpoint", {"model_path": "nvidia/DeepSeek-R1-NVFP4"}),
            ("one-server", {"id": "a_tp16_b", "tp_size": 16.0}),
            ("concurrency", {"silicon_data_source": "source_file=a.csv"}),
            ("attention-groups", {"attention_dp_size": 0.0}),
            ("fits", {"silicon_data_source": "silicon_concurrency=4096"}),
            ("first-token", {"silicon_ttft_ms": 20_000.0}),
            (
                "one-token-a-step",
                {
                    "model_path": "deepseek-ai/DeepSeek-R1",
                    "backend": "trtllm",
                    "backend_version": "1.2.0rc6.post3",
                    "system": "b200_sxm",
                    "id": "r1_tp8_",
                },
            ),
        ],
    )
    def test_each_rule_drops_what_it_is_for(self, rule, row, models):
        rows, dropped = servings.keep(parsed(served(), served(**row)), models)
        assert {name: n for name, n in dropped.items() if n} == {rule: 1}
        assert len(rows) == 1

    def test_copies_count_once_and_two_times_of_one_key_not_at_all(self, models):
        rows, dropped = servings.keep(parsed(served(), served()), models)
        assert (len(rows), dropped["one-copy"]) == (1, 1)
        rows, dropped = servings.keep(parsed(served(), served(silicon_tpot_ms=18.0)), models)
        assert (len(rows), dropped["one-time"]) == (0, 2)

    @pytest.fixture(scope="class")
    def models(self):
        described = {"llama-3.1-70b": parameters.describe("llama-3.1-70b")}
        return described | {"deepseek": parameters.describe("deepseek-v3")}


class TestTables:
    def test_formats_and_gpus_are_those_of_the_catalogue(self):
        assert set(kernel_tables.FORMATS.values()) <= set(kernel_fits.KINDS)
        for name in kernel_tables.GPUS.values():
            assert silicon.chip_of(catalog.device(name)).bandwidth > 0

    def test_every_rule_has_a_reason(self):
        recorded = {reason for row in records.read("silicon") for reason in row["dropped"]}
        text = (paths.root() / "data" / "silicon.md").read_text(encoding="utf-8")
        assert [reason for reason in recorded if f"`{reason}`" not in text] == []


MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3", "gemma-3-27b")


@pytest.fixture(scope="module")
def described():
    return {name: parameters.describe(name) for name in MODELS}


class TestForecast:
    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("framework", [None, "vllm"])
    def test_it_is_never_below_its_floor(self, described, name, framework):
        for batch in (1, 16, 256):
            plan = forecast.Plan(devices=8, batch=batch, weights="fp8", kv="fp8")
            model, numbers = described[name], forecast.numbers("H200", framework)
            seconds, parts = forecast.tpot_seconds(model, catalog.device("H200"), plan, numbers)
            assert seconds == pytest.approx(sum(parts.values()))
            assert seconds > forecast.floor_seconds(model, catalog.device("H200"), plan)

    @pytest.mark.parametrize("name", MODELS)
    def test_the_matrices_hold_all_parameters_that_a_token_multiplies(self, described, name):
        model = described[name]
        shape = forecast.blocks(model)
        dense = sum(matrix.n * matrix.k * count for matrix, count in shape.matrices)
        router = shape.layers * shape.router.n * shape.router.k if shape.router else 0
        used = shape.layers * 3 * model.hidden_size * shape.inner * (model.experts_per_token or 0)
        head = model.hidden_size * model.vocab_size
        multiplied = model.active - model.lookup - model.vision
        assert dense + router + used + head == pytest.approx(multiplied, rel=0.01)

    def test_a_tower_for_images_multiplies_no_token_of_text(self, described):
        """Kimi K2.5 and Qwen3.5 have towers of half a billion parameters."""
        model = described["llama-3.1-8b"]
        seeing = replace(
            model, total=model.total + 10**9, active=model.active + 10**9, vision=10**9
        )
        assert forecast.blocks(seeing) == forecast.blocks(model)
        plan = forecast.Plan(batch=256)
        floors = [forecast.floor_parts(entry, H100, plan)[1] for entry in (model, seeing)]
        assert floors[0] == floors[1]

    @pytest.mark.parametrize("format", ["bf16", "fp8", "nvfp4"])
    def test_the_floor_is_the_rooflines_where_memory_bounds(self, described, format):
        """Heads and embeddings stay in 16 bits in both."""
        model, device = described["llama-3.1-70b"], catalog.device("B200")
        plan = forecast.Plan(devices=4, batch=1, input=4000, output=200, weights=format)
        floor = roofline.decode(model, device, 4100, 1, devices=4, weights=format)
        assert forecast.floor_parts(model, device, plan)[0] == pytest.approx(floor.seconds, 1e-9)

    def test_one_request_waits_for_nobody_and_many_for_each_others_prompts(self, described):
        numbers, model = forecast.numbers(), described["llama-3.1-8b"]
        alone, crowd = (
            forecast.tpot_seconds(model, H100, forecast.Plan(batch=b, output=100), numbers)[1]
            for b in (1, 51)
        )
        assert alone["load"] == 0
        prompt = forecast.prompt_seconds(model, H100, forecast.Plan(), numbers)
        assert crowd["load"] == pytest.approx(0.5 * prompt)

    def test_known_seconds_of_a_known_server(self, described):
        """Llama-3.1-8B in bf16 on one H100, one request: servers print 6 to 7.5 ms a token."""
        result = forecast.forecast(
            described["llama-3.1-8b"], H100, forecast.Plan(), framework="vllm"
        )
        assert 5.5e-3 < result.seconds < 7.5e-3
        assert result.low < result.seconds < result.high

    def test_cards_without_tables_get_the_first_grade(self, described):
        result = forecast.forecast(
            described["llama-3.1-8b"], catalog.device("RTX-4090"), forecast.Plan(), framework="vllm"
        )
        assert (result.grade, result.framework) == (1, None)

    def test_what_does_not_fit_is_refused_and_what_exceeds_the_batch_queues(self, described):
        model = described["llama-3.1-70b"]
        with pytest.raises(ValueError, match="does not fit"):
            forecast.forecast(model, H100, forecast.Plan())
        plan = forecast.Plan(devices=4, batch=8, concurrency=64)
        assert forecast.forecast(model, H100, plan).queues

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"host": "slow"}, "unknown host"), ({"batch": 0}, "batch"), ({"kv": "x"}, "cache")],
    )
    def test_bad_input_is_named(self, described, changes, message):
        with pytest.raises(ValueError, match=message):
            forecast.forecast(described["llama-3.1-8b"], H100, forecast.Plan(**changes))

    def test_an_unknown_framework_is_named(self):
        with pytest.raises(ValueError, match="unknown framework"):
            forecast.numbers("H100", "tgi")

    def test_the_table_that_times_quantization_apart_is_not_believed(self):
        """TensorRT-LLM's fp8 products launch in 13 us alone, in a server they are fused."""
        rows = [
            row
            for row in records.read("silicon")
            if (row["kernel"], row["gpu"], row["format"]) == ("gemm", "H100", "fp8")
        ]
        apart = next(row for row in rows if row["framework"] == "trtllm")
        used = forecast.numbers("H100", "trtllm").fit("gemm", "fp8")
        assert apart["numbers"]["launch"] > 1e-5
        assert used["launch"] == min(row["numbers"]["launch"] for row in rows)
        assert used["peak"] == apart["numbers"]["peak"]


class TestScores:
    """The rows that the chapter prints."""

    @pytest.fixture(scope="class")
    def rows(self):
        return records.read("silicon_servings")

    def test_no_serving_that_is_kept_is_faster_than_its_floor(self, rows):
        assert [row["below_floor"] for row in rows if row.get("below_floor")] == []

    def test_the_numbers_were_frozen_first(self, rows):
        import hashlib

        frozen = hashlib.sha256(records.path("silicon").read_bytes()).hexdigest()
        assert {row["numbers_sha256"] for row in rows} == {frozen}
        last = max(row["from"]["time"] for row in records.read("silicon"))
        assert all(row["from"]["time"] > last for row in rows)

    def test_what_the_rules_drop_adds_up(self, rows):
        for rules in (row for row in rows if row["what"] == "rules"):
            assert list(rules["dropped"]) == list(servings.RULES) == list(floor_and_silicon.RULES)
            assert rules["rows"] + sum(rules["dropped"].values()) == 3619


class TestEnergy:
    def test_watts_by_hand(self):
        numbers = {"idle": 0.5, "memory": 0.1, "flops": 0.8}
        assert energy.watts_share(0.5, 0.25, numbers) == pytest.approx(0.5 + 0.05 + 0.4)

    def test_joules_are_watts_times_seconds_over_tokens(self):
        share = energy.watts_share(0.5, 0.01, energy.numbers())
        joules = energy.joules_per_token(H100, 4, 0.02, 0.01, 0.0002, 16)
        assert joules == pytest.approx(700 * share * 4 * 0.02 / 16)

    def test_a_device_without_a_stated_power_is_refused(self):
        with pytest.raises(ValueError, match="no power"):
            energy.joules_per_token(catalog.device("TPU-v7"), 1, 1, 0.5, 0.1, 1)

    def test_the_rule_keeps_between_standing_power_and_the_stated_one(self):
        """Measured GPUs drew 36 to 99 % of their stated power; the rule must not leave that."""
        numbers = energy.numbers()
        for memory, flops in ((0.05, 0.001), (0.8, 0.02), (0.3, 0.3)):
            assert 0.36 < energy.watts_share(memory, flops, numbers) < 1.1

    def test_no_measured_configuration_is_faster_than_its_floor(self):
        rows = [row for row in records.read("silicon_energy") if row["what"] == "time"]
        assert {row["below_floor"] for row in rows if "below_floor" in row} == {0}


class TestFormats:
    """The phase diagram against figures that others read in the tables."""

    @pytest.fixture(scope="class")
    def rows(self):
        return records.read("silicon_formats")

    def product(self, rows, gpu, version, format, size):
        (row,) = [
            row
            for row in rows
            if row["what"] == "product"
            and (row["gpu"], row["version"], row["format"], row["size"])
            == (gpu, version, format, size)
        ]
        return row

    @pytest.mark.parametrize(
        ("gpu", "version", "best", "worst"),
        [
            ("A100-80GB", "1.0.0", 3.33, 0.90),
            ("L40S", "1.0.0", 4.12, 1.16),
            ("H100", "1.0.0rc3", 3.33, 0.72),
            ("H200", "1.2.0rc5", 2.90, 0.68),
        ],
    )
    def test_four_bits_on_large_matrices(self, rows, gpu, version, best, worst):
        row = self.product(rows, gpu, version, "int4", "over 120M")
        assert row["best"] == pytest.approx(best, abs=0.01)
        assert row["worst"] == pytest.approx(worst, abs=0.01)

    def test_on_hopper_four_bits_lose_in_the_middle_and_on_the_l40s_nowhere(self, rows):
        middle = self.product(rows, "H200", "1.2.0rc5", "int4", "26M to 120M")
        assert middle["loses_between"][0] <= 64
        assert self.product(rows, "L40S", "1.0.0", "int4", "26M to 120M")["loses_between"] is None

    def test_the_sign_is_better_than_a_coin_on_every_card_held_out(self, rows):
        signs = [row for row in rows if row["what"] == "sign"]
        assert len(signs) >= 30
        assert min(row["right"] for row in signs) > 0.65

    def test_servers_as_accelmark_has_them(self, rows):
        ratios = {
            (row["device"], row["format"]): row["over_bf16"]
            for row in rows
            if row["what"] == "server" and row["framework_version"] == "0.7.3"
        }
        assert ratios["NVIDIA H100 80GB HBM3", "W4A16"] == pytest.approx(0.62, abs=0.005)
        assert ratios["NVIDIA GeForce RTX 3090", "W8A8"] == pytest.approx(2.30, abs=0.005)
