"""Bounds of chapters' parameters: what makes no sense is refused before a kernel starts."""

import re

import pytest
from sizewise import paths
from sizewise.chapters import bounds
from sizewise.chapters import notebook as notebooks
from sizewise.chapters import run as runner

ABSURD = [
    ("scaling-laws", {"budget": -5}, "budget -5: must be from 1,000,000,000 to 1e+30 FLOPs"),
    ("scaling-laws", {"budget": 0}, "must be from"),
    ("scaling-laws", {"size": float("nan")}, "must be from"),
    ("scaling-laws", {"tokens": float("inf")}, "must be from"),
    ("memory-wall", {"context": -1}, "must be from 1 to 100,000,000 tokens"),
    ("memory-wall", {"batch": 10**9}, "must be from 1 to 1,000,000 sequences"),
    ("memory-wall", {"device": "H1000"}, "unknown device 'H1000'; did you mean 'H100'?"),
    ("memory-wall", {"model": "lama-3.1-8b"}, "did you mean 'llama-3.1-8b'?"),
    ("memory-wall", {"model": "  "}, "names no model"),
    ("parameters", {"model": "llama\x1b[31m"}, "names no model"),
    ("kv-cache", {"context": 0}, "must be from"),
    ("kv-cache", {"batch": 0}, "must be from"),
    ("cost-and-energy", {"devices": 0}, "must be from 1 to 10,000,000 devices"),
    ("cost-and-energy", {"tokens": -1.0}, "must be from"),
    ("cost-and-energy", {"price_date": "yesterday"}, "must be a day such as 2026-04-15"),
    ("cost-and-energy", {"price_date": "1970-01-01"}, "must be a day from 2023-01-01"),
    ("diminishing-returns", {"benchmark": "MMLUX"}, "did you mean 'MMLU'?"),
    ("diminishing-returns", {"length": 10**9}, "must be from 1 to 10,000 tokens"),
    ("isoflop", {"most": -1}, "must be from"),
    ("isoflop", {"next_budget": 1e40}, "must be from"),
    ("mixture-of-experts", {"most": 1}, "must be from"),
    ("attention-variants", {"most": 0}, "must be from"),
    ("practical-test", {"points": 0}, "must be from 0.1 to 100 points"),
    ("practical-test", {"discordant": 1.5}, "must be from"),
    ("small-versus-large", {"level": 0.0}, "must be from"),
    ("right-sizing", {"labels": 0}, "must be from"),
    ("right-sizing", {"core_hour": -0.5}, "must be from"),
    ("serving-experts", {"format": "fp7"}, "unknown format 'fp7'"),
    ("serving-experts", {"context": 10**7}, "must be from 1 to 262,144 tokens"),
    ("serving-experts", {"batch": -64}, "must be from"),
    ("turboquant", {"dim": 10**7}, "must be from 8 to 1,024 coordinates"),
    ("turboquant", {"dim": 12}, "must be a multiple of 8"),
    ("mixture-of-experts", {"most": 1e9}, "must be from 100,000,000,000 to 1e+30 FLOPs"),
    ("turboquant", {"bits": 0}, "must be from 1 to 8 bits"),
    ("weight-quantization", {"tolerance": -0.1}, "must be from"),
    ("ledger", {"as_of": "2023-01-01"}, "must be a day from 2025-07-01 to today"),
    ("ledger", {"article": "S9"}, "unknown article 'S9'"),
    ("isoflop", {"most": "much"}, "must be a number"),
    ("isoflop", {"next_budget": []}, "must be a number"),
    ("kv-cache", {"model": "x" * 10_000}, "names no model"),
    ("kv-cache", {"model": "../../etc/passwds"}, "unknown model '../../etc/passwds'"),
    ("weight-quantization", {"model": "qwen3-23b"}, "unknown model"),
    ("right-sizing", {"dear": "gpt-5.4\n"}, "unknown model at openai"),
    ("right-sizing", {"vendor": "together"}, "unknown model at together"),
    ("small-versus-large", {"cheap": ""}, "unknown model at together"),
    ("memory-wall", {"batch": 10**5000}, "a number of thousands of digits: must be from 1"),
]


@pytest.mark.parametrize(("chapter", "values", "message"), ABSURD)
def test_an_absurd_value_is_refused_in_a_line_before_a_kernel_starts(chapter, values, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        bounds.check(runner.resolve([chapter]), values)
    assert str(refused.value).isprintable()  # so it is one line
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("chapter", paths.chapters())
def test_every_parameter_of_every_chapter_has_a_bound_that_its_default_meets(chapter):
    file = paths.chapters()[chapter]
    for name, default in notebooks.parameters(file).items():
        assert {name, f"{chapter}.{name}"} & bounds.BOUNDS.keys(), name
        if default is not None:
            bounds.check({chapter: file}, {name: default})


ANYTHING = [-5, 0, 1e308, float("nan"), float("inf"), 10**400, "", " ", "x" * 10_000, "\x1b[31m"]
ANYTHING += ["a\nb", "a\0", None, [], {}, True, "1970-13-45", "9999-12-31", "../../etc", "H100:1:2"]


@pytest.mark.parametrize("chapter", paths.chapters())
def test_whatever_is_given_is_taken_or_refused_in_a_line(chapter):
    file = paths.chapters()[chapter]
    refusals = []
    for name in notebooks.parameters(file):
        for value in ANYTHING:
            try:
                bounds.check({chapter: file}, {name: value})
            except ValueError as refused:
                refusals.append(str(refused))
    assert all(map(str.isprintable, refusals))
