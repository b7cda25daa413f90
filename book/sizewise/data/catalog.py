"""Named models, devices, prices and runs: published facts, each with its citation.

The facts are files in ``data/facts/``; ``data/facts/README.md`` says what each field means.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from sizewise import units

from . import records


@dataclass(frozen=True)
class Entry:
    """A published model. ``config`` is what its ``config.json`` says; counts are parameters."""

    name: str
    family: str
    developer: str
    config: dict[str, Any]
    published_total: int | None
    published_active: int | None
    exact: bool  # the published total is known to the last parameter
    counted: dict[str, int]  # an independent count made before this library, kept as a check
    source: str  # key in book/references.bib
    checked: str
    effective: int | None = None  # what the vendor calls so, where it does
    year: int | None = None
    note: str = ""
    stand_in: bool = False  # counted with another model's class


@dataclass(frozen=True)
class Device:
    """An accelerator as its vendor states it. Dense rates, decimal units."""

    name: str
    memory_bytes: float
    bandwidth: float  # bytes a second
    flops: dict[str, float | None]  # format -> operations a second
    tdp_watts: float | None
    source: str
    checked: str
    aliases: tuple[str, ...] = ()
    note: str = ""
    memory_real_bytes: float | None = None  # as the driver shows it
    sms: int | None = None  # streaming multiprocessors or compute units
    l2_bytes: float | None = None
    link_bandwidth: float | None = None  # bytes a second to its peers, one way
    as_of: str = ""


@cache
def models() -> dict[str, Entry]:
    """Every model of the catalogue by name, in the file's order."""
    return {row["name"]: _entry(row) for row in records.facts("models")}


def model(name: str) -> Entry:
    """One model by name. Raises ValueError with the nearest name."""
    try:
        return models()[name]
    except KeyError:
        raise units.unknown("model", name, models()) from None


@cache
def devices() -> dict[str, Device]:
    """Every device by name, in the file's order."""
    return {row["name"]: _device(row) for row in records.facts("devices")}


def device(name: str) -> Device:
    """One device by name or alias, whatever the case. Raises ValueError with the nearest name."""
    wanted = str(name).lower()
    for one in devices().values():
        if wanted in (one.name.lower(), *(alias.lower() for alias in one.aliases)):
            return one
    raise units.unknown("device", name, devices())


def _entry(row: dict[str, Any]) -> Entry:
    published = row.get("published") or {}
    return Entry(
        name=row["name"],
        family=row["family"],
        developer=row.get("developer", ""),
        config=row["config"],
        published_total=published.get("total"),
        published_active=published.get("active"),
        exact=bool(published.get("exact")),
        counted=row["counted"],
        source=row["source"],
        checked=row["checked"],
        effective=published.get("effective"),
        year=row.get("year"),
        note=row.get("note", ""),
        stand_in=bool(row.get("stand_in")),
    )


def _device(row: dict[str, Any]) -> Device:
    return Device(
        name=row["name"],
        memory_bytes=float(row["memory_bytes"]),
        bandwidth=float(row["bandwidth"]),
        flops={k: None if v is None else float(v) for k, v in row["flops"].items()},
        tdp_watts=row.get("tdp_watts"),
        source=row["source"],
        checked=row["checked"],
        aliases=tuple(row.get("aliases", ())),
        note=row.get("note", ""),
        memory_real_bytes=row.get("memory_real_bytes"),
        sms=row.get("sms"),
        l2_bytes=row.get("l2_bytes"),
        link_bandwidth=row.get("link_bandwidth"),
        as_of=str(row["as_of"]),
    )


def amount(name: str) -> dict[str, Any]:
    """A price or an amount of energy from ``energy_and_prices.yml``, by name."""
    rows = {row["name"]: row for row in records.facts("energy_and_prices")}
    if name not in rows:
        raise units.unknown("amount", name, rows)
    return rows[name]


def hourly_price(device: str) -> tuple[float, float] | None:
    """Published dollars for an hour of a device, low and high; None where nobody is cited."""
    rows = {row["name"]: row for row in records.facts("energy_and_prices")}
    row = rows.get(f"{device.lower().replace('-', '_')}_gpu_hour")
    if row is None:
        return None
    return float(row.get("low", row.get("value"))), float(row.get("high", row.get("value")))


def run(name: str) -> dict[str, Any]:
    """What is known of a training run, from ``runs.yml``, by name."""
    rows = {row["name"]: row for row in records.facts("runs")}
    if name not in rows:
        raise units.unknown("run", name, rows)
    return rows[name]
