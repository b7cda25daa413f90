"""A chapter's section on a GPU of our own: one line without rows, tables with them.

The rows here are synthetic, made by this test and nowhere else.
"""

import pytest
from sizewise.chapters.tables import own_gpu
from sizewise.data import records
from sizewise.models import parameters

DEVICE = "synthetic card of a test"
SOURCE = {"machine": {"gpu": DEVICE}}
MODEL = "llama-3.1-8b"


def row(kind, **columns):
    return {
        "device": DEVICE,
        "kind": kind,
        "refused": None,
        "clock_mhz": 1800,
        "from": SOURCE,
    } | columns


def step(format, ms, batch=1, mode="graph", model_bytes=16e9, **fields):
    columns = {"model": MODEL, "format": format, "mode": mode, "batch": batch, "context": 1024}
    columns |= {"step_ms": ms, "model_bytes": model_bytes, "cache_bytes": 1e8 * batch}
    return row("decode", **columns, joules_per_token=0.5) | fields


ROWS = [
    row("ceiling", method="copy", rate=4e12),
    row("ceiling", method="bf16", rate=8e14),
    step("bf16", 5.0),
    step("nf4", 2.5, model_bytes=5e9),
    step("bf16", 9.0, mode="static"),
    step("int8", 18.0, mode="static", model_bytes=9e9),
    step("fp4", None, refused="out of memory"),
    row("attend", method="bf16-flash", context=32768, batch=8, group=4, us=300.0, bytes=1e9),
    row("attend", method="bf16-triton", context=32768, batch=8, group=4, us=250.0, bytes=1e9),
    row("attend", method="fp8-triton", context=32768, batch=8, group=4, us=150.0, bytes=5e8),
    row("attend", method="tq4", context=32768, batch=8, group=4, us=100.0, bytes=2e8),
    row("capacity", method="bf16", tokens=1000.0),
    row("capacity", method="tq4", tokens=3879.0),
]


@pytest.fixture
def recorded(monkeypatch):
    read_rows = records.read
    monkeypatch.setattr(records, "read", lambda stem: ROWS if stem == "gpu" else read_rows(stem))


@pytest.mark.parametrize("topic", own_gpu.TOPICS)
def test_without_rows_a_chapter_has_one_line(topic, monkeypatch):
    monkeypatch.setattr(records, "read", lambda stem: [])
    section = own_gpu.section(topic)
    assert section.text == own_gpu.NOTHING
    assert "<table" not in section.html


@pytest.mark.parametrize("topic", own_gpu.TOPICS)
def test_with_rows_it_has_a_table_that_names_the_card_and_its_clock(recorded, topic):
    section = own_gpu.section(topic)
    assert f"Measured on one {DEVICE}, 1,800 MHz" in section.html
    assert own_gpu.NOTHING not in section.html


def test_formats_are_compared_in_the_same_mode_beside_their_floor(recorded):
    import pandas as pd

    table = own_gpu.weights(pd.DataFrame(ROWS)).set_index(["weights", "launched"])
    assert table.loc[("nf4", "graph"), "over bf16"] == 2.0
    assert table.loc[("int8", "static"), "over bf16"] == 0.5
    assert ("fp4", "graph") not in table.index
    lookup = parameters.describe(MODEL).lookup * 2 * (1 - 1 / 128256)
    floor = 1e3 * (16e9 - lookup + 1e8) / 4e12
    assert table.loc[("bf16", "graph"), "share of the floor's speed"] == pytest.approx(floor / 5.0)


def test_predictions_stand_beside_what_was_measured(recorded):
    import pandas as pd

    table = own_gpu.attention(pd.DataFrame(ROWS)).set_index("cache")
    assert table.loc["tq4", "over bf16"] == 2.5  # of the faster of both
    assert table.loc["tq4", "over fp8"] == 1.5
    assert table.loc["tq4", "share of a copy's speed"] == pytest.approx(2e8 / 100e-6 / 4e12)
    cell = ("tq4", 32768, 8, 4)
    names = ("method", "context", "batch", "group")
    cited = next(
        r
        for r in records.read("gpu_expected")
        if r["kind"] == "predicted" and tuple(r[n] for n in names) == cell
    )
    expected = f"{cited['over_bf16_low']:.2f} to {cited['over_bf16_high']:.2f}"
    assert table.loc["tq4", "predicted over bf16"] == expected


def test_a_claim_about_speed_is_decided_by_rows_where_there_are_any(tmp_path, monkeypatch):
    """The chapter's own cell, over synthetic rows in a folder of this test."""
    import json

    import numpy as np
    from sizewise import paths

    notebook = json.loads((paths.root() / "chapters" / "turboquant.ipynb").read_text())
    cells = ("".join(cell["source"]) for cell in notebook["cells"])
    cell = next(source for source in cells if "gpu = own_gpu.times_faster" in source)
    code = cell[cell.index("gpu = ") :]
    names = {"said": {"times_smaller": 6, "times_faster": 8}, "best_3": np.ones(1)}
    names["own_gpu"] = own_gpu
    names["smaller"] = {3: 5.12, 4: 3.88}

    def parts(*rows):
        file = tmp_path / f"{len(rows)}.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in rows))
        monkeypatch.setattr(records, "read", lambda stem: list(map(json.loads, file.open())))
        exec(code, names)  # noqa: S102 - a cell of this repository
        return {name for name, holds in names["parts"].items() if holds}

    assert parts() == {"no retraining"}
    shape = {"context": 32768, "batch": 8, "group": 4}
    rows = [row("attend", method="bf16-flash", us=90.0, **shape)]
    rows += [row("attend", method="tq4", us=10.0, **shape)]
    rows += [row("logits", method="fp32-product", us=70.0, **shape)]
    rows += [row("logits", method="tq4", us=10.0, **shape)]
    assert parts(*rows) == {"no retraining", "eight times faster than bf16, measured"}
    refused = {"refused": "not timed"}
    assert parts(rows[0], rows[1] | refused, *rows[2:], rows[1] | {"us": 30.0}) == {"no retraining"}
