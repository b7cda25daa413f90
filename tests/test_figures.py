"""Figures that are the same file on every machine, and say nothing of the machine they run on."""

import re

import numpy as np
from conftest import run_python
from sizewise.chapters.figures import style


def curve(axes, values):
    axes.plot(np.arange(1, 60), values, marker="o", label="a curve")
    axes.fill_between(np.arange(1, 60), values, values * 1.1, alpha=0.2)
    axes.scatter([3, 30], [values[3], values[30]])
    axes.set_xscale("log")
    axes.set_xlabel("parameters")


def drawn(values) -> str:
    return style.show(curve, values, alt="a curve that falls for sixty steps", caption="x").svg


def test_the_last_digits_of_another_processor_change_nothing():
    values = 3 + np.arange(1, 60) ** -0.31
    figure = drawn(values)
    assert drawn(values * (1 + 1e-9)) == figure
    assert drawn(values * np.where(np.arange(59) % 2, 1 + 1e-12, 1 - 1e-12)) == figure
    assert drawn(values * 1.01) != figure  # a change that can be seen is one


def test_places_have_a_digit_and_shapes_two():
    figure = drawn(3 + np.arange(1, 60) ** -0.31)
    shapes = " ".join(re.findall(r"<defs>.*?</defs>", figure, re.S))
    places = re.sub(r"<defs>.*?</defs>", "", figure, flags=re.S)
    coordinates = " ".join(re.findall(r'\b(?:d|x|y|transform|viewBox)="([^"]*)"', places))
    assert re.search(r"\d\.\d", coordinates)
    assert not re.search(r"\.\d\d", coordinates)
    assert not re.search(r"\.\d\d\d", " ".join(re.findall(r'\bd="([^"]*)"', shapes)))


def test_every_name_is_there_once_and_every_reference_has_one():
    figure = drawn(3 + np.arange(1, 60) ** -0.31)
    names = re.findall(r'\bid="([^"]+)"', figure)
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', figure))
    assert len(set(names)) == len(names) > 0
    assert used <= set(names)
    assert all(re.fullmatch(r"f[0-9a-f]{8}-n\d+", name) for name in names)


def test_no_warning_where_no_home_can_be_written():
    code = (
        "import sizewise.chapters.figures.style as style\n"
        "style.show(lambda axes: axes.plot([1, 2]), alt='a line that rises', caption='x')\n"
    )
    environment = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/x", "MPLCONFIGDIR": ""}
    process = run_python("-c", code, **environment)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
