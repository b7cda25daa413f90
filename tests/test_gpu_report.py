"""The time of layer four on a GPU, on made-up rows: there, missing, of another device."""

import json

import pytest
from sizewise.chapters.tables import gpu_units, gpu_weights

LAYERS = {
    **{"device": "A card", "kind": "layers", "model": "llama-3.1-8b", "format": "bf16"},
    **{"step": "decode", "ended": "done", "layers_ms": [1.0, 1.0, 1.1, 1.2, 0.9, 1.0]},
    **{"layers_low_ms": [0.9] * 6, "layers_high_ms": [1.4] * 6},
}
ROWS = [LAYERS | {"device": "CPU"}, LAYERS, LAYERS | {"device": "Other"}]


@pytest.fixture
def rows(tmp_path):
    return made(tmp_path, ROWS)


def made(tmp_path, some):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in some))
    return gpu_weights.recorded(file)


def test_one_card_is_told_of_and_no_processor(rows):
    assert rows["device"].tolist() == ["A card"]


def test_layer_four_is_held_against_the_median_layer(rows):
    table = gpu_weights.fourth(rows)
    item = table.iloc[0]
    assert item["layer 4 over the median"] == 1.2
    assert (item["low"], item["high"], item["least"], item["most"]) == (0.9, 1.4, 0.9, 1.1)
    assert item["layers"] == 6
    assert "1.200 to 1.200 times as long as the median layer" in gpu_units.fourth(rows)


def test_without_rows_it_was_not_measured(tmp_path):
    rows = made(tmp_path, ROWS[:1])
    assert "not measured" in gpu_units.fourth(rows)
    assert "not measured" in gpu_weights.shown(gpu_weights.fourth(rows), "a caption").text
