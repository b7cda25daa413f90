"""Named models, devices, prices and runs: published facts, each with its citation.

The facts are files in ``data/facts/``; ``data/facts/README.md`` says what each field means.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sizewise import paths, units

from . import records


@dataclass(frozen=True)
class Entry:
    """A published model. ``config`` is what its ``config.json`` says; counts are parameters."""

    name: str
    family: str
    config: dict[str, Any]
    published_total: int | None
    published_active: int | None
    exact: bool  # the published total is known to the last parameter
    counted: dict[str, int]  # an independent count made before this library, kept as a check
    source: str  # key in book/references.bib
    checked: str
    developer: str = ""
    effective: int | None = None  # what the vendor calls so, where it does
    year: int | None = None
    note: str = ""
    repository: str = ""  # on the hub; empty where the weights were never released
    file: str = ""  # in that repository, or where a paper's table has the shape
    read_in: str = ""  # where that configuration was read; "recalled" where it was not
    total_from: str = ""  # where the published total was found
    price_list: tuple[str, str] | None = None  # provider and model on the pinned list of API prices
    text_only: bool = False  # its repository also holds towers for images or sound
    tensors: tuple = ()  # of a checkpoint without a class: name, kind, shape, layers


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
    unified: bool = False  # memory shared with the processor
    as_of: str = ""


SAME_WORDS = 0.8  # share of letters in common: llama and lama 0.89, opt and gpt 0.67


TEXT_ONLY = "its text part alone: the repository's towers for images or sound are not counted"


@cache
def models() -> dict[str, Entry]:
    """Every model of the catalogue by name, in the file's order."""
    return {row["name"]: _entry(row) for row in records.facts("models")}


def model(name: str) -> Entry:
    """One model by name. Raises ValueError with the nearest name."""
    try:
        return models()[name]
    except KeyError:
        raise unknown_model(name) from None


def unknown_model(name: str, known: Iterable[str] | None = None) -> ValueError:
    """The error for a model that the catalogue does not have.

    Another spelling is suggested only where every number is the same and the words nearly so: a
    model of another size or family is another model. Names that begin as ``name`` does are listed.
    """
    known, text = list(models() if known is None else known), str(name).lower()
    near = [each for each in known if _same_model(text, each)]
    within = [each for each in known if text and each.startswith(text)]
    if near:
        hint = f"did you mean {difflib.get_close_matches(text, near, 1, 0)[0]!r}?"
    elif within:
        hint = f"names that begin so: {', '.join(within[:12])}"
    else:
        hint = "sizewise models lists the names; a hub id, a config.json or a GGUF file do as well"
    return ValueError(f"unknown model {units.shortened(str(name))!r}; {hint}")


def _same_model(a: str, b: str) -> bool:
    """Whether two names have the same numbers and their letters differ in one place or so."""
    numbers = re.findall(r"\d+", a)
    first, second = (re.sub(r"[\d\W_]+", "", name) for name in (a, b))
    alike = difflib.SequenceMatcher(None, first, second, autojunk=False)
    different = len(first) + len(second) - 2 * sum(m.size for m in alike.get_matching_blocks())
    same = bool(numbers) and numbers == re.findall(r"\d+", b)
    longer = abs(len(first) - len(second))
    return same and different <= 2 and longer < 2 and alike.ratio() >= SAME_WORDS


def conformance(name: str) -> dict[str, Any] | None:
    """The row of ``data/conformance.json`` for this repository of the hub; None without one.

    Rows that only show a form, or have no right answer, are none.
    """
    file = paths.root() / "data" / "conformance.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"models": ()}
    for row in rows["models"]:
        names = (row["name"].lower(), row.get("repository", "").lower())
        if "/" in name and name.lower() in names and row.get("expected"):
            return {"as_of": rows["as_of"], **row}
    return None


WRITTEN = {
    "gpt2": "GPT-2",
    "gpt3": "GPT-3",
    "gpt": "GPT",
    "opt": "OPT",
    "glm": "GLM",
    "olmo": "OLMo",
    "olmoe": "OLMoE",
    "tinyllama": "TinyLlama",
    "smollm2": "SmolLM2",
    "deepseek": "DeepSeek",
    "minimax": "MiniMax",
    "minilm": "MiniLM",
    "mpnet": "MPNet",
    "mimo": "MiMo",
    "xl": "XL",
    "gpt-oss": "gpt-oss",
}
HYPHENATED = ("gpt-", "-coder", "switch-c", "flash-lite")  # written with their hyphen


def title(name: str) -> str:
    """A model's name as people write it: ``llama-3.1-405b`` is Llama 3.1 405B."""
    name = re.sub(r"-(\d)-(\d)$", r"-\1.\2", name)  # claude-opus-4-6
    for part in HYPHENATED:
        name = name.replace(part, part.replace("-", "_"))
    return " ".join(
        WRITTEN.get(word.replace("_", "-")) or "-".join(map(_capital, word.split("_")))
        for word in name.split("-")
    )


def _capital(word: str) -> str:
    if any(map(str.isdigit, word)) and not word[:4].isalpha():  # 8x7b, a3b: the x is small
        return word.upper().replace("X", "x")
    return WRITTEN.get(word, word.capitalize())


@cache
def devices() -> dict[str, Device]:
    """Every device by name, in the file's order."""
    return {row["name"]: _device(row) for row in records.facts("devices")}


def device(name: str) -> Device:
    """A device by any usual spelling, or one described as ``24GiB:936GB/s:165TFLOPs``.

    Case, hyphens, spaces, a vendor's name and the memory's unit don't matter; a model number is
    enough where only one device has it. Raises ValueError with the nearest name.
    """
    text = str(name)
    if ":" in text:
        return _described_device(text)
    query, every = _plain(text), devices()
    spellings = {d.name: _spellings(d) for d in every.values()}
    exact = [n for n, plain in spellings.items() if query in plain]
    if exact:
        return every[exact[0]]
    # A letter behind a number is another product: an M4 is no M4 Max.
    within = re.compile(rf"(?<!\d){re.escape(query)}(?![\da-z])")
    plainly = {d.name: [_plain(name) for name in (d.name, *d.aliases)] for d in every.values()}
    near = [n for n, plain in plainly.items() if query and any(map(within.search, plain))]
    if len(near) == 1:
        return every[near[0]]
    if near:
        raise ValueError(f"device {units.shortened(text)!r} may be {', '.join(near)}")
    slips = [n for n, plain in plainly.items() if any(_slip(query, p) for p in plain)]
    known = f"known: {', '.join(every)}; any other is written 24GiB:936GB/s:165TFLOPs"
    hint = f"did you mean {slips[0]!r}?" if slips else known
    raise ValueError(f"unknown device {units.shortened(text)!r}; {hint}")


def _spellings(device: Device) -> set[str]:
    """A device's names, also with its memory."""
    memory = f"{device.memory_bytes / 1e9:.0f}"
    plain = {_plain(name) for name in (device.name, *device.aliases)}
    return plain | {name.removesuffix(memory) + memory for name in plain}


def _slip(a: str, b: str) -> bool:
    """Whether a digit too many or too few, or another letter, makes ``a`` of ``b``."""
    digits, letters = ([re.sub(r, "", x) for x in (a, b)] for r in (r"\D", r"\d"))
    if letters[0] == letters[1]:
        short, long = sorted(digits, key=len)
        return len(long) - len(short) == 1 < len(short) and long.startswith(short)
    alike = difflib.SequenceMatcher(None, letters[0], letters[1], autojunk=False).ratio()
    return bool(digits[0]) and digits[0] == digits[1] and alike > SAME_WORDS


# Makers, and the socket with its version, which memory may follow: sxm, sxm5, sxm580gb, sxm80gb.
MAKERS = re.compile(
    r"nvidia|geforce|tesla|quadro|amd|instinct|radeon|apple|google|intel|sxm([2-6](?=\d\d|$|g))?"
)


def _plain(name: str) -> str:
    plain = MAKERS.sub("", re.sub(r"[\s_()/-]+", "", name.lower()))
    return re.sub(r"(?<=\d)(gib|gb|g)$", "", plain)


def _described_device(text: str) -> Device:
    """A device of memory, bandwidth and, if given, a peak in 16 bits: ``24GiB:936GB/s:165TFLOPs``.

    Raises ValueError for anything else.
    """
    form = ValueError(
        f"--device takes MEMORY:BANDWIDTH[:PEAK] such as 24GiB:936GB/s:165TFLOPs, not "
        f"{units.shortened(text)!r}"
    )
    parts = [part.strip() for part in text.split(":")]
    if len(parts) not in (2, 3):
        raise form
    units_of = ("b", "b/s", r"(fl)?ops?(/s)?")
    values = [units.amount(*both) for both in zip(parts, units_of, strict=False)]
    memory, bandwidth, peak = (*values, None)[:3]
    if memory is None or bandwidth is None or None in values:
        raise form
    flops = dict.fromkeys(("bf16", "fp8", "int8", "fp4", "int4")) | {"bf16": peak}
    return Device(text, memory, bandwidth, flops, None, "", "as given")


def by_repository(name: str) -> Entry | None:
    """The model whose weights are in this repository of the hub; None where none is listed.

    None too where the catalogue has the text part alone and ``data/conformance.json`` the whole.
    """
    hub_id = name.lower()
    entry = next((e for e in models().values() if hub_id and e.repository.lower() == hub_id), None)
    row = conformance(name) if entry is not None and entry.text_only else None
    return None if row and "text_config" in row["config"] else entry


def shape(name: str) -> dict[str, Any] | None:
    """The count and layers of a model as ``scripts/model_shapes.py`` took them from its class."""
    shapes = records.facts_json("model_shapes")
    return shapes["models"].get(name) if shapes else None


def _entry(row: dict[str, Any]) -> Entry:
    published = row.get("published") or {}
    row = {name: value for name, value in row.items() if name in Entry.__dataclass_fields__}
    return Entry(
        **row
        | {
            "published_total": published.get("total"),
            "published_active": published.get("active"),
            "exact": bool(published.get("exact")),
            "effective": published.get("effective"),
            "price_list": tuple(row["price_list"]) if row.get("price_list") else None,
            "tensors": tuple(map(tuple, row.get("tensors", ()))),
        }
    )


def _device(row: dict[str, Any]) -> Device:
    aliases = tuple(row.get("aliases", ()))
    return Device(**row | {"aliases": aliases, "as_of": str(row["as_of"])})


def amount(name: str) -> dict[str, Any]:
    """A price or an amount of energy from ``energy_and_prices.yml``, by name."""
    return _named("energy_and_prices", "amount", name)


def hourly_price(device: str) -> tuple[float, float] | None:
    """Published dollars for an hour of a device, low and high; None where no source is cited."""
    key = f"{device.lower().replace('-', '_')}_gpu_hour"
    for row in records.facts("energy_and_prices"):
        if row["name"] == key:
            return float(row.get("low", row.get("value"))), float(row.get("high", row.get("value")))
    return None


def run(name: str) -> dict[str, Any]:
    """What is known of a training run, from ``runs.yml``, by name."""
    return _named("runs", "run", name)


def _named(stem: str, kind: str, name: str) -> dict[str, Any]:
    rows = {row["name"]: row for row in records.facts(stem)}
    if name not in rows:
        raise units.unknown(kind, name, rows)
    return rows[name]
