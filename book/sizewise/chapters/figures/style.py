"""Figures as a page shows them: the book's one look, and SVG in the page's own colours.

The functions that draw are in `figures`; `show` makes a `Figure` of what they drew.

A figure is inline SVG whose lines and letters take the page's own colour, so it is at home in
light and dark. The same table gives the same bytes on every machine.
"""

import hashlib
import html
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

INK = "#010203"  # stands for the page's text colour; becomes currentColor
FAINT = "#040506"  # the same, faint: grid lines
# Okabe and Ito's colours, the light ones darkened: told apart by most eyes, on white and black.
COLOURS = ("#1f7bbf", "#d9730d", "#0a9168", "#b3589a", "#b8860b", "#c8452f", "#5c6bc0", "#7a7a7a")
# A phone shows a figure at 24rem: drawn at this share of its nominal size, and with no letter
# below this many points, it has letters of about 9 px there.
SHARE, LEAST = 0.87, 10.6
NOMINAL = (7.2, 4.0)  # inches
LETTERS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3))


@dataclass(frozen=True)
class Figure:
    """A finished figure. ``alt`` says what it shows, ``caption`` what to see in it."""

    svg: str
    alt: str
    caption: str
    numbers: str = ""  # an HTML table
    data: str = ""  # every drawn point as CSV (`drawn.as_csv`)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self._html(), "text/plain": f"Figure: {self.alt}"}

    def _html(self) -> str:
        from .data import as_address

        table = link = ""
        if self.numbers:
            table = f"<details><summary>The numbers</summary>\n{self.numbers}\n</details>\n"
        if self.data:
            link = (
                f'<p class="sw-figure__data"><a href="{as_address(self.data)}" '
                'download="figure.csv">Drawn numbers (CSV)</a></p>\n'
            )
        drawn = self.svg.replace(
            "<svg ", f'<svg role="img" aria-label="{html.escape(self.alt)}" ', 1
        )
        return (
            f'<figure class="sw-figure">\n{drawn}\n'
            f"<figcaption>{html.escape(self.caption)}</figcaption>\n{table}{link}</figure>"
        )


@contextmanager
def style():
    """The book's one look, for figures drawn inside the block."""
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context(_look()):
        yield


@cache
def _look() -> dict:
    from cycler import cycler

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return dict.fromkeys(inked, INK) | {
        "svg.fonttype": "none",
        "svg.hashsalt": "sizewise",
        "figure.figsize": NOMINAL,
        "figure.dpi": 72,  # what SVG counts in
        "figure.facecolor": "none",
        "figure.constrained_layout.use": True,
        "savefig.facecolor": "none",
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=COLOURS),
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "font.size": 11,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }


def show(draw, *args, alt: str, caption: str, numbers=None, size=None, **options) -> Figure:
    """Draw ``draw(axes, *args, **options)`` in the book's style and make a `Figure` of it.

    ``numbers`` is a data frame that goes below the figure, folded. ``size`` is in inches, of
    which it gets `SHARE`.
    Raises ValueError without an alternative text.
    """
    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs an alternative text and a caption")
    from .data import as_csv

    with style():
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=[SHARE * side for side in size or NOMINAL])
        try:
            draw(axes, *args, **options)
            readable(figure)
            drawn = svg(figure)
            data = as_csv(figure)
        finally:
            plt.close(figure)
    table = ""
    if numbers is not None:
        from sizewise.chapters.tables import display

        table = display.table(numbers).html
    return Figure(drawn, alt, caption, table, data)


def readable(figure) -> None:
    """Letters of at least `LEAST` points, and no raised ones where an axis counts in powers.

    A legend of the whole figure that is too wide for it gets smaller ones.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatterSciNotation

    for text in figure.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), LEAST))
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        for place in ("major", "minor"):
            was = getattr(axis, f"get_{place}_formatter")()
            if isinstance(was, LogFormatterSciNotation):
                getattr(axis, f"set_{place}_formatter")(_powers(was))
    for legend in figure.legends:
        while legend.get_window_extent().width > figure.bbox.width:
            for text in legend.get_texts():
                text.set_fontsize(0.97 * text.get_fontsize())
            if text.get_fontsize() < 6:
                raise ValueError("a legend is wider than its figure: give it fewer columns")


def _powers(was):
    """Ticks as ``was`` chooses them: 0.01, 100, then 1M and 1B, or 1e21 where letters end.

    On an axis of bytes they end before B, which would not be read as a billion there. Operations
    have none: budgets are told as 1e21 everywhere.
    """
    from matplotlib.ticker import Formatter

    class Powers(Formatter):
        def set_axis(self, axis):
            super().set_axis(axis)
            was.set_axis(axis)

        def set_locs(self, locs):
            super().set_locs(locs)
            was.set_locs(locs)

        def __call__(self, x, pos=None):
            named = self.axis.get_label_text().lower()
            last = 0 if "operations" in named else 1e9 if "byte" in named else 1e15
            letters = max(map(abs, self.axis.get_view_interval())) < last
            return self.fix_minus(power(x, letters)) if was(x, pos) else ""

    return Powers()


def power(value: float, letters: bool = True) -> str:
    """A number at a tick, on one line: 0.01, 100, 10K, 1B; from 10,000 on 1e4 without letters."""
    size = abs(value)
    if letters and 1e4 <= size < 1e15:
        letter, one = next(pair for pair in LETTERS if size >= pair[1])
        return f"{value / one:.6g}{letter}"
    if 1e-3 <= size < 1e4 or size == 0:
        return f"{value:.6g}"
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def svg(figure) -> str:
    """The figure as an ``<svg>`` element in the page's colours and fonts."""
    import io

    out = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=none)
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.S)
    # Inside a page, matplotlib's style sheet for "*" would apply to the whole page; the book's
    # own style sheet says the same for figures.
    drawn = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", drawn, flags=re.S)
    drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn)  # the same names would stand in every figure
    drawn = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", drawn)
    drawn = drawn.replace(INK, "currentColor")
    drawn = re.sub(rf"stroke: {FAINT}", "stroke: currentColor; stroke-opacity: 0.15", drawn)
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)  # the viewBox remains
    drawn = re.sub(r"\n\s*\n+", "\n", drawn).strip()
    # Figures of one size have equal ticks under equal names; on one page names must differ.
    own = "f" + hashlib.sha256(drawn.encode()).hexdigest()[:8]
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}-", drawn)
