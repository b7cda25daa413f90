"""Listed prices: against prices that the vendors announced, and the package's own arithmetic."""

from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.data import prices

DAY = "2026-04-15"


@pytest.mark.parametrize(
    ("provider", "model", "dollars"),
    [
        # As announced when each model or price was new.
        ("openai", "gpt-4o-2024-05-13", (5.0, 15.0)),
        ("openai", "gpt-4o", (2.5, 10.0)),
        ("openai", "gpt-4o-mini", (0.15, 0.60)),
        ("openai", "gpt-4", (30.0, 60.0)),
        ("anthropic", "claude-3-haiku", (0.25, 1.25)),
        ("anthropic", "claude-opus-4-1", (15.0, 75.0)),
    ],
)
def test_prices_are_those_that_the_vendor_announced(provider, model, dollars):
    price = prices.price(provider, model, DAY)
    assert (price.input, price.output) == dollars


def test_a_price_cut_holds_from_its_day_on():
    # OpenAI cut o3 from 10 and 40 dollars to 2 and 8 on 10 June 2025.
    before, after = (prices.price("openai", "o3", day) for day in ("2025-06-09", "2025-06-10"))
    assert (before.input, before.output) == (10.0, 40.0)
    assert (after.input, after.output) == (2.0, 8.0)


def test_a_prompt_over_the_threshold_pays_the_higher_tier_for_all_its_tokens():
    # Claude Sonnet 4.5: 3 and 15 dollars up to 200,000 tokens, 6 and 22.50 above.
    at, over = (
        prices.price("anthropic", "claude-sonnet-4-5", DAY, prompt=n) for n in (200_000, 200_001)
    )
    assert (at.input, at.output) == (3.0, 15.0)
    assert (over.input, over.output) == (6.0, 22.5)
    assert over.request(200_001, 1000) == pytest.approx(200_001 * 6e-6 + 1000 * 22.5e-6)


def test_a_price_by_time_of_day_is_that_of_noon():
    # DeepSeek's discount of 2025 ran from 16:30 to 00:30 UTC.
    noon = prices.price("deepseek", "deepseek-chat", DAY)
    assert (noon.input, noon.output) == (0.27, 1.10)


def test_a_request_costs_its_tokens():
    assert prices.price("openai", "gpt-4o", DAY).request(1_000_000, 500_000) == 7.5


@pytest.mark.parametrize("on", [date(2026, 4, 15), datetime(2026, 4, 15, 23, 59), DAY])
def test_a_day_may_be_a_date_or_a_text(on):
    assert prices.price("openai", "gpt-4o", on).on == date(2026, 4, 15)


def test_every_price_names_its_list_and_its_day():
    price = prices.price("openai", "gpt-4o", DAY)
    assert price.source.startswith("genai-prices ")
    assert price.source.endswith(DAY)
    assert prices.list_version() in price.source


TEXT_MODELS = [
    ("openai", "gpt-5.4"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("x-ai", "grok-4.20"),
    ("deepseek", "deepseek-chat"),
    ("mistral", "mistral-large-2512"),
    ("together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"),
]


@given(
    entry=st.sampled_from(TEXT_MODELS),
    day=st.dates(date(2024, 1, 1), date(2027, 12, 31)),
    prompt=st.integers(0, 1_000_000),
    answer=st.integers(0, 100_000),
)
@settings(max_examples=200, deadline=None)
def test_a_request_costs_what_the_package_itself_computes(entry, day, prompt, answer):
    import genai_prices

    provider, model = entry
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=prompt, output_tokens=answer),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime(day.year, day.month, day.day, 12),
    )
    ours = prices.price(provider, model, day, prompt=prompt)
    assert ours.request(prompt, answer) == pytest.approx(float(theirs.total_price), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("opnai", "gpt-4o", DAY), "unknown provider 'opnai'; did you mean 'openai'?"),
        (("openai", "gpt-4o-mni", DAY), "unknown model at openai .*did you mean 'gpt-4o-mini'?"),
        (("openai", "whisper-1", DAY), "no price for input and output tokens of whisper-1"),
        (("openai", "text-embedding-3-small", DAY), "no price for input and output tokens"),
        (("openai", "gpt-4o", "15.4.2026"), "a day is written YYYY-MM-DD, got '15.4.2026'"),
        (("openai", "gpt-4o", None), "a day is written YYYY-MM-DD, got None"),
    ],
)
def test_bad_names_and_days_raise_one_line_that_names_them(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        prices.price(*arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"prompt": -1}, {"prompt": 1.5}])
def test_bad_prompts_and_hours_raise(options):
    with pytest.raises(ValueError, match="must be"):
        prices.price("openai", "gpt-4o", DAY, **options)


def test_negative_tokens_have_no_cost():
    with pytest.raises(ValueError, match="answer tokens"):
        prices.price("openai", "gpt-4o", DAY).request(10, -1)


def test_the_library_imports_without_the_price_list():
    import subprocess
    import sys

    code = "import sys, sizewise.data.prices; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------------ the chapter on cost


def test_the_ladder_has_the_rent_of_stated_hours_and_a_device_without_a_rent_has_none():
    from sizewise.chapters.tables import cost_and_energy as cost
    from sizewise.data import catalog

    hours = catalog.run("deepseek-v3")["figures"]["gpu_hours"]["value"]
    low, high = catalog.hourly_price("H100")
    row = cost.ladder().set_index("run").loc["DeepSeek-V3"]
    assert (row["low"], row["high"]) == pytest.approx((low * hours, high * hours))
    assert catalog.hourly_price("B300") is None
    assert cost.train(1e24, device="B300").dollars is None
    assert cost.train(1e24).dollars.low > 0


def test_the_mfu_of_a_disclosed_run_follows_from_the_hours_printed_beside_it():
    from sizewise.chapters.tables import cost_and_energy as cost

    runs = cost.disclosed().set_index("run")
    assert runs["in the MFU"].tolist() == ["30.8M", "2.66M"]
    flops = runs["stated"].fillna(runs["6 N D"])
    hours = runs["in the MFU"].str.rstrip("M").astype(float) * 1e6
    assert runs["MFU"].tolist() == pytest.approx(
        (flops / (hours * 3600 * 989.4e12)).tolist(), rel=0.005
    )


def test_measured_pairs_are_of_small_and_large_by_total_parameters():
    """Gemma 3 27B is neither, whatever the case of its b; Llama 4 Scout 17B stores 109 billion."""
    from sizewise.chapters.tables import cost_and_energy as cost

    assert cost.measured_savings(0.8) == (94 / 128, 128)


def test_a_page_quotes_the_error_of_the_way_that_it_forecasts_ten_trillion_parameters():
    from sizewise.chapters.tables import cost_and_energy as cost
    from sizewise.chapters.tables import floor_and_silicon as silicon
    from sizewise.costs import forecast

    row = cost.serving().set_index("model").loc["10T, more experts"]
    assert row["H100s"] > cost.ONE_SERVER  # too many for the forecast from kernels
    assert row["seconds"] == pytest.approx(row["floor"] * forecast.floor_factor()["typical"])
    errors = silicon.splits().set_index("forecast")["error_median"]
    assert errors["the floor times one constant"] == pytest.approx(36.4, abs=0.1)
