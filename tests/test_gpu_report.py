"""Tables of a GPU's speed, on made-up rows: what is fastest, what never ran, what is missing."""

import json
import math

import pandas as pd
import pytest
from sizewise.chapters.tables import gpu_units, gpu_weights

DONE = {"held_bytes": 5e9, "peak_bytes": 6e9, "params": 8e9, "joules_per_token": 2.0}


def decode(form, mode, ms=None, batch=1, model="llama-3.1-8b", ended="done", **more):
    row = {
        "device": "A card",
        "kind": "decode",
        "model": model,
        "format": form,
        "mode": mode,
        "batch": batch,
        "context": 1024,
        "ended": ended,
    }
    if ms is not None:
        row |= DONE | {"step_ms": ms, "floor_ms": 4.0, "measured_over_floor": ms / 4}
    return row | more


EIGHT = {"outlier_share": 0.001}
ROWS = [
    {
        "device": "CPU",
        "kind": "decode",
        "model": "llama-3.1-8b",
        "format": "bf16",
        "mode": "eager",
        "batch": 1,
        "context": 1024,
        "ended": "done",
        "step_ms": 900.0,
    },
    {"device": "A card", "kind": "ceiling", "of": "copy", "size": 9, "ended": "done", "rate": 1e12},
    {
        "device": "Other",
        "kind": "decode",
        "model": "llama-3.1-8b",
        "format": "bf16",
        "mode": "eager",
        "batch": 1,
        "context": 1024,
        "ended": "done",
        "step_ms": 1.0,
    },
    decode("bf16", "graph", 5.0),
    decode("bf16", "static", 16.0),
    decode("bf16", "eager", 20.0),
    decode("bf16", "eager", 22.0, 8),
    decode("bf16", "graph", 5.5, 8),
    decode("nf4", "graph", 8.0),
    decode("nf4", "eager", 60.0),
    decode("int8", "graph", ended="not captured: it looks for large values"),
    decode("int8", "eager", 80.0, **EIGHT),
    decode("int8-plain", "eager", 50.0),
    decode("int8", "eager", 81.0, 8, **EIGHT),
    decode("int8-plain", "graph", 6.0),
    decode("fp32", "graph", ended="refused: no such card", model="llama-3.1-70b"),
    decode("bf16", "graph", ended="out of memory", model="llama-3.1-70b"),
    decode("bf16", "eager", ended="out of memory", model="llama-3.1-70b"),
    decode("nf4", "graph", 30.0, model="llama-3.1-70b", params=70e9),
    decode("bf16", "graph", 2.0, model="smollm2-135m", params=135e6, joules_per_token=None),
    decode("bf16", None, 40.0, kind="prefill", context=512),
    decode("nf4", None, 60.0, kind="prefill", context=512),
    decode("int8", None, kind="prefill", context=512, ended="out of memory"),
    decode("bf16", None, 100.0, kind="prefill", context=2048),
    decode("int8", None, 90.0, kind="prefill", context=2048),
    decode("int8-plain", None, 60.0, kind="prefill", context=2048),
    decode(
        "bf16",
        "eager",
        kind="kernels",
        kernels=900,
        span_ms=20.0,
        gap_ms=14.0,
        matmul_ms=4.0,
        elementwise_ms=1.5,
        attention_ms=0.5,
        dequantize_ms=0.0,
        copy_ms=0.0,
    ),
    decode(
        "int8",
        "eager",
        kind="kernels",
        kernels=2400,
        span_ms=80.0,
        gap_ms=20.0,
        matmul_ms=10.0,
        elementwise_ms=9.0,
        attention_ms=1.0,
        dequantize_ms=40.0,
        copy_ms=0.0,
    ),
    decode(
        "bf16",
        None,
        kind="layers",
        step="decode",
        layers_ms=[1.0, 1.0, 1.1, 1.2, 0.9, 1.0],
        layers_low_ms=[0.9] * 6,
        layers_high_ms=[1.4] * 6,
    ),
]


@pytest.fixture
def rows(tmp_path):
    return made(tmp_path, ROWS)


def made(tmp_path, some):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in some))
    return gpu_weights.recorded(file)


def test_one_card_is_told_of_and_no_processor(rows):
    assert set(rows["device"]) == {"A card"}
    assert len(rows) == len(ROWS) - 2


def test_a_format_that_no_graph_holds_counts_in_its_fastest_other_mode(rows):
    table = gpu_weights.decoding(rows).set_index(["format", "batch"])
    assert table.loc[("int8", 1), "mode"] == "eager"
    assert table.loc[("bf16", 1), "mode"] == "graph"
    assert table.loc[("int8", 1), "against bf16"] == 5 / 80
    assert table.loc[("int8", 8), "against bf16"] == 5.5 / 81
    assert table.loc[("nf4", 1), "over floor"] == 2
    assert "fp32" not in table.index.levels[0]


def test_the_answer_names_the_formats_that_were_measured(rows):
    said = gpu_units.answer(rows)
    assert "1.60 times as long in nf4 (graph)" in said
    assert "16.00 times as long in int8 (eager)," in said
    assert "as in bf16 (graph)." in said
    assert "fp32" not in said
    assert "nf4" not in gpu_units.answer(rows[rows["format"] != "nf4"])


def test_modes_say_why_there_is_no_time(rows):
    table = gpu_weights.modes(rows).set_index("format")
    assert table.loc["int8", "graph"] == "not captured"
    assert table.loc["bf16", ["graph", "static", "eager"]].tolist() == ["5", "16", "20"]
    assert table.loc["bf16", "eager over best"] == 4
    large = gpu_weights.modes(rows, "llama-3.1-70b").set_index("format")
    assert large.loc["fp32", "graph"] == "refused"
    assert large.loc["bf16", "eager"] == "out of memory"


def test_every_size_has_a_line_the_ones_that_did_not_fit_too(rows):
    table = gpu_weights.by_size(rows)
    assert list(table["model"].drop_duplicates()) == [
        "smollm2-135m",
        "llama-3.1-8b",
        "llama-3.1-70b",
    ]
    large = table[table["model"] == "llama-3.1-70b"].set_index("format")
    assert large["mode"].to_dict() == {"nf4": "graph", "fp32": "refused", "bf16": "out of memory"}
    assert large["parameters"].tolist() == [70e9] * 3
    assert pd.isna(large.loc["bf16", "ms"])
    assert len(table) == 1 + 4 + 3


def test_prompts_are_compared_at_their_length(rows):
    table = gpu_weights.prompts(rows).set_index(["format", "tokens"])
    assert table["ms"].to_dict() == {
        ("bf16", 512): 40,
        ("bf16", 2048): 100,
        ("int8", 2048): 90,
        ("int8-plain", 2048): 60,
        ("nf4", 512): 60,
    }
    assert table.loc[("nf4", 512), "against bf16"] == pytest.approx(2 / 3)
    assert table.loc[("int8", 2048), "against bf16"] == pytest.approx(100 / 90)


def test_the_detour_is_what_goes_without_it_in_the_same_mode(rows):
    table = gpu_weights.detour(rows)
    # A graph of int8 was never captured; at batch 8 the plain one was not measured.
    assert table["mode"].tolist() == ["eager", "eager", "prompt"]
    assert table["detour"].tolist() == pytest.approx([30 / 80, math.nan, 1 / 3], nan_ok=True)
    assert table["int8 over bf16"].tolist() == pytest.approx([4, 81 / 22, 0.9])
    assert table["plain over bf16"].tolist()[::2] == pytest.approx([2.5, 0.6])
    said = gpu_units.why(rows)
    assert "4.00 times as long as bf16" in said
    assert "it would be 2.50" in said
    assert "0.10% of the columns" in said
    assert "At batch 8 it is 3.68 times" in said
    assert "2,048 tokens takes 0.90 times as long as in bf16" in said
    assert "2,400 kernels in int8 and 900 in bf16" in said


def test_the_largest_part_that_is_no_product_is_named(rows):
    table = gpu_weights.reasons(rows).set_index("format")
    assert table["mostly"].to_dict() == {"bf16": "waiting", "int8": "codes and scales"}
    assert table.loc["bf16", ["waiting", "products", "over floor"]].tolist() == [0.7, 0.2, 5]
    assert table.loc["int8", "kernels"] == 2400


def test_layer_four_is_held_against_the_median_layer(rows):
    table = gpu_weights.fourth(rows)
    one = table.iloc[0]
    assert one["layer 4 over the median"] == 1.2
    assert (one["low"], one["high"], one["least"], one["most"]) == (0.9, 1.4, 0.9, 1.1)
    assert one["layers"] == 6
    assert "1.200 to 1.200 times as long as the median layer" in gpu_units.fourth(rows)


TABLES = ("decoding", "prompts", "modes", "by_size", "detour", "reasons", "fourth")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "some",
    [[], ROWS[:2], [decode("bf16", "graph", ended="out of memory")]],
    ids=["none", "a ceiling", "nothing fits"],
)
def test_without_rows_every_table_says_not_measured(tmp_path, name, some):
    table = getattr(gpu_weights, name)(made(tmp_path, some))
    told = gpu_weights.shown(table, "a caption")
    if name in ("modes", "by_size") and some and some[0]["ended"] == "out of memory":
        assert "out of memory" in told.text
    else:
        assert len(table) == 0
        assert "not measured" in told.text


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_shown(rows, name):
    told = gpu_weights.shown(getattr(gpu_weights, name)(rows), "a caption").html
    assert "a caption" in told
    assert "nan" not in told


def test_without_rows_the_sentences_say_so(tmp_path):
    for some in ([], ROWS[:2]):
        found = made(tmp_path, some)
        assert "not measured" in gpu_units.answer(found)
        assert "not measured" in gpu_units.why(found)
        assert "not measured" in gpu_units.fourth(found)
