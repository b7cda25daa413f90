"""The clock, the meter, what a device can do at most, and the floor that follows."""

import time

import pytest
from device_parts import (  # noqa: F401 - fixtures
    QUICK,
    the_quick,
)
from sizewise.benchmark import ceilings, energy, roofline_gap, timing
from sizewise.costs import roofline
from sizewise.data import catalog
from sizewise.models import parameters

torch = pytest.importorskip("torch")


def test_time_a_call_is_that_of_the_call():
    took = timing.time_calls(lambda: time.sleep(0.01), "cpu", repeats=3, least=0.02)
    assert len(took.seconds) == 3
    assert took.calls >= 3
    assert took.low <= took.median <= took.high
    assert took.low >= 0.01
    assert took.joules is None


def test_fewer_than_three_repeats_show_no_spread():
    with pytest.raises(ValueError, match="at least 3"):
        timing.time_calls(lambda: None, "cpu", repeats=2)


def test_short_calls_fill_their_block():
    took = timing.time_calls(lambda: time.sleep(0.001), "cpu", repeats=3, least=0.06)
    assert took.calls * took.median >= 3 * 0.05  # not what a first, slower call would suggest


def test_why_nothing_is_metered_is_said(monkeypatch):
    assert "CPU" in energy.unmetered("cpu")
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: None)
    assert "nvidia-ml-py" in energy.unmetered("cuda")
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: name)
    for counter, words in ((None, "no counter"), (int, None)):
        monkeypatch.setattr(energy, "_counter", lambda counter=counter: counter)
        messages = energy.unmetered("cuda")
        assert messages is words is None or words in messages


def test_energy_is_the_difference_of_the_counter_and_not_given_for_short_times(monkeypatch):
    counter, clock = iter([5_000, 12_000, 20_000]), iter([0.0, 2.0, 2.5, 3.0])
    monkeypatch.setattr(energy, "_counter", lambda: lambda: next(counter))
    monkeypatch.setattr(energy.time, "monotonic", lambda: next(clock))
    meter = energy.Meter("cuda")
    assert meter.joules() == 7.0
    meter.started = 2.0
    assert meter.joules() is None
    assert energy.Meter("cpu").counter is None


# ------------------------------------------------------------------ ceilings and floors


@pytest.mark.parametrize("of", ceilings.ON_CPU)
def test_a_ceiling_counts_its_bytes_or_operations(of, monkeypatch):
    def fixed(work, device):
        work()
        return timing.Timing((0.5, 1.0, 2.0), 3, None)

    monkeypatch.setattr(timing, "time_calls", fixed)
    size = 1 << 16 if of in ceilings.MEMORY else 64
    amount = {"copy": 2 * size, "read": size}.get(of, 2 * size**3)
    result = ceilings.measure(of, size, "cpu")
    assert result == {"rate": amount, "rate_low": amount / 2, "rate_high": 2 * amount}


def test_the_precision_of_fp32_products_is_put_back():
    before = torch.get_float32_matmul_precision()
    ceilings.measure("tf32", 64, "cpu", **QUICK)
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="unknown ceiling"):
        ceilings.measure("bf61", 64, "cpu")


def ceiling(of, rate, device="X"):
    return {"kind": "ceiling", "device": device, "of": of, "rate": rate}


def test_measured_ceilings_stand_in_for_a_datasheet():
    result = [ceiling("copy", 3e12), ceiling("copy", 4e12), ceiling("read", 2e12)]
    result += [ceiling("bf16", 7e14), ceiling("bf16", 6e14), ceiling("bf16", 9e15, "Y")]
    device = ceilings.as_device([*result, {"kind": "ceiling", "device": "X", "of": "fp8"}], "X")
    assert device.bandwidth == 4e12
    assert device.flops["bf16"] == 7e14
    assert device.flops["fp8"] is None
    assert ceilings.as_device(result, "Z") is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200 NVL", None),
        ("CPU", None),
    ],
)
def test_a_drivers_name_finds_its_datasheet_or_none(name, known):
    result = ceilings.datasheet(name)
    assert (result and result.name) == known


def device(bandwidth, rate):
    return catalog.Device("X", 1e11, bandwidth, {"bf16": rate}, None, "measured", "measured")


def test_a_floor_by_hand():
    model = parameters.describe("llama-3.1-8b")
    stored = 2 * model.total
    result = roofline_gap.of(
        "decode", model, "bf16", 4, 1000, stored, sheet=None, measured=device(1e12, 1e15)
    )
    lookup = 128256 * 4096
    cache = 4 * 1000 * 2 * 32 * 8 * 128 * 2
    read = stored - 2 * lookup + 2 * 4 * 4096 + cache
    assert result["bytes_read"] == read
    assert result["floor_ms"] == pytest.approx(1e3 * read / 1e12)  # memory bound in both phases
    assert result["floor_sheet_ms"] is None
    row = {"step_ms": 2 * result["floor_ms"], "format": "bf16"}
    compared = roofline_gap.compared(row, result, device(1e12, 1e15))
    assert compared["measured_over_floor"] == pytest.approx(2)
    assert compared["bandwidth_share"] == pytest.approx(0.5)
    rate = result["operations"] / (row["step_ms"] / 1e3)
    assert compared["matrix_share"] == pytest.approx(rate / 1e15)
    assert compared["measured_over_sheet"] is None


@pytest.mark.parametrize("format", ["bf16", "fp16", "nf4", "int8", "int8-plain"])
@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_the_floor_of_a_datasheet_is_the_rooflines(kind, format):
    model, sheet = parameters.describe("llama-3.2-1b"), ceilings.datasheet("NVIDIA H200")
    result = roofline_gap.of(kind, model, format, 8, 512, model.total, sheet=sheet, measured=None)
    stored = "int8" if format == "int8-plain" else format
    compute = "int8" if stored == "int8" else "bf16"
    step = roofline.decode if kind == "decode" else roofline.prefill
    wanted = step(model, sheet, 512, 8, weights=stored, kv="bf16", compute=compute)
    assert result["floor_sheet_ms"] == pytest.approx(1e3 * wanted.seconds)
    assert result["operations"] == wanted.operations
    assert result["floor_ms"] is None
    empty = roofline_gap.compared({"step_ms": 1.0, "format": format}, result, None)
    assert empty["measured_over_floor"] is empty["bandwidth_share"] is empty["matrix_share"] is None
