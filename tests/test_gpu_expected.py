"""What a GPU is held against: NVIDIA's cells, instructions counted in machine code, predictions."""

import itertools
import sys

import pandas as pd
import pytest
from sizewise import paths
from sizewise.data import records

torch = pytest.importorskip("torch")
from sizewise.benchmark import kv  # noqa: E402

sys.path.insert(0, str(paths.root() / "scripts"))
import gpu  # noqa: E402
import gpu_expected  # noqa: E402


def recorded(kind):
    return [row for row in records.read("gpu_expected") if row["kind"] == kind]


def test_twenty_published_cells_are_on_record_with_their_source():
    rows = recorded("published")
    assert len(rows) == 20
    kinds = {(row["method"], row["format"]) for row in rows}
    assert kinds == set(itertools.product(("product", "attend"), ("bf16", "fp8")))
    wheel = next(row for row in records.facts("kernel_tables") if row["name"] == "core")
    assert {row["sha256"] for row in rows} == {wheel["sha256"]}
    for row in rows:  # no cell is faster than the datasheet's bandwidth and peak
        if row["method"] == "product":
            item = 2 if row["format"] == "bf16" else 1
            size = item * (row["n"] * row["k"] + row["m"] * row["k"]) + 2 * row["m"] * row["n"]
            flops = 2 * row["m"] * row["n"] * row["k"]
            floor = max(size / 4.8e12, flops / (989.4e12 * 2 / item))
        else:
            method = f"{row['format']}-triton"
            floor = 2 * 8 * row["batch"] * row["context"] * kv.vector_bytes(method) / 4.8e12
        assert 0.2 < 1e6 * floor / row["us"] < 1.0, row


def test_the_instructions_of_a_loop_are_counted():
    listing = """
        .L_x_1:
        /*0010*/                   IADD3 R1, R2, R3 ;
        .L_x_2:
        /*0020*/                   LOP3.LUT R1, R2, R3, RZ, 0xfc, !PT ;
        /*0030*/              @P0  BRA `(.L_x_2) ;
        /*0040*/                   BRA `(.L_x_3) ;
        /*0050*/             @!P1  BRA `(.L_x_1) ;
        .L_x_3:
    """
    assert gpu_expected.longest_loop(listing) == 5


def test_a_prediction_by_hand():
    row = {"context": 32768, "batch": 8, "group": 4, "method": "tq4"}
    counts, bandwidth = {4: 5.42}, 4.3e12
    # 132 x 128 threads a cycle at 989.4e12 / (132 x 4096) cycles a second.
    values = 132 * 128 * (989.4e12 / (132 * 4096)) / 5.42
    size = 2 * 8 * 8 * 32768 * 66
    seconds = [7.5e-6 + size / (values * share * 66 / 128) for share in (0.95, 0.80)]
    assert gpu_expected.predict("tq4", row, 5.42, bandwidth) == pytest.approx(tuple(seconds))
    assert values * 66 / 128 / bandwidth == pytest.approx(0.68, abs=0.02)  # share of a copy
    result = gpu_expected.prediction(row, counts, bandwidth)
    assert 2.0 < result["over_bf16_low"] < result["over_bf16_high"] < 2.8
    assert 1.0 < result["over_fp8_low"] < result["over_fp8_high"] < 1.4
    # With few instructions a value, bytes are the bound: 256 over 66, less one more launch.
    free = gpu_expected.prediction(row, {4: 0.1}, bandwidth)
    assert 3.0 < free["over_bf16_low"] < 256 / 66


def test_every_attention_row_has_its_prediction_on_record():
    predicted = {tuple(r[n] for n in kv.SHAPE): r for r in recorded("predicted")}
    assert set(predicted) == {tuple(row[n] for n in kv.SHAPE) for row in gpu.attention()}
    every = pd.DataFrame(records.read("gpu_expected"))
    counts = every.groupby("bits")["per_value"].min()
    fastest = gpu_expected.bandwidth(every)
    for row in predicted.values():  # what is on record is what the code says still
        prediction = gpu_expected.prediction(row, counts, fastest)
        assert prediction == pytest.approx({name: row[name] for name in prediction}, rel=1e-9)


@pytest.mark.triton
def test_packed_decode_takes_the_instructions_on_record_half_of_a_table_in_memory():
    from sizewise.quantization.kernels import decode

    counted = {bits: gpu_expected.instructions(bits)["per_value"] for bits in (4, 3, 2)}
    tile = {"block": decode.BLOCK, "warps": decode.WARPS}
    rows = [row for row in recorded("instructions") if tile.items() <= row.items()]
    assert counted == {row["bits"]: row["per_value"] for row in rows}
    assert counted[2] < counted[3] < counted[4] < 6  # reading a table takes ten
    for bits, count in counted.items():  # predictions take the fewest of all tunings
        assert count == min(r["per_value"] for r in recorded("instructions") if r["bits"] == bits)


def test_a_card_that_disagrees_with_the_published_times_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "device_name", lambda rehearse: "X")
    monkeypatch.setattr(gpu, "measure", lambda c, f: {"us": 12.0, "published_us": 10.0})
    options = ["gpu.py", "1", "--output", str(tmp_path / "rows.jsonl")]
    monkeypatch.setattr(sys, "argv", options)
    with pytest.raises(ValueError, match=r"20\.0% at the median; nothing timed"):
        gpu.main()
    kinds = {row["kind"] for row in records.read(tmp_path / "rows.jsonl")}
    assert kinds == {"ceiling", "calibrate"}
    monkeypatch.setattr(sys, "argv", [*options, "--uncalibrated"])
    assert gpu.main() == gpu.DONE
