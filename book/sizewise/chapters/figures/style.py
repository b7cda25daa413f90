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
from urllib.parse import quote

from sizewise import paths, units

INK = "#010203"  # stands for the page's text colour; becomes currentColor
FAINT = "#040506"  # the same, faint: grid lines
# Okabe and Ito's colours, the light ones darkened: told apart by most eyes, on white and black.
COLOURS = ("#1f7bbf", "#d9730d", "#0a9168", "#b3589a", "#b8860b", "#c8452f", "#5c6bc0", "#7a7a7a")
# A phone of 360 px shows a figure 326 px wide: drawn at this share of its nominal size, and with
# no letter below this many points, it has letters of about 9 px there.
SHARE, LEAST = 0.8, 11.5
MOST_ROWS = 4000  # of a CSV: beyond this the page would carry more numbers than figure
NOMINAL = (7.2, 4.0)  # inches
HOVER = "hover:"  # before the texts of points, in the name of their group
LETTERS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3))


@dataclass(frozen=True)
class Figure:
    """A finished figure: ``title`` is its finding, ``alt`` says what it shows without looking."""

    svg: str
    alt: str
    caption: str
    title: str = ""
    numbers: str = ""  # an HTML table, shown folded
    csv: str = ""  # the frame that was drawn
    sources: tuple[str, ...] = ()  # files of the checkout: recorded rows, facts, what draws it

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self._html(), "text/plain": f"Figure: {self.alt}"}

    def _html(self) -> str:
        title = table = link = ""
        if self.title:
            title = f'<p class="sw-figure__title">{html.escape(self.title)}</p>\n'
        if self.numbers:
            table = f"<details><summary>The numbers</summary>\n{self.numbers}\n</details>\n"
        if self.csv:
            address = "data:text/csv;charset=utf-8," + quote(self.csv, safe=" ,:;()/+*=!~_.-")
            link = (
                f'<p class="sw-figure__data"><a href="{address.replace(" ", "%20")}" '
                'download="figure.csv">Numbers (CSV)</a></p>\n'
            )
        picture = self.svg.replace(
            "<svg ", f'<svg role="img" aria-label="{html.escape(self.alt)}" ', 1
        )
        return (
            f'<figure class="sw-figure" data-sources="{html.escape(" ".join(self.sources))}">\n'
            f"{title}{picture}\n<figcaption>{html.escape(self.caption)}</figcaption>\n"
            f"{table}{link}</figure>"
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
        "font.size": 11.5,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
    }


def show(
    draw,
    *args,
    caption: str,
    alt: str = "",
    title: str = "",
    rows: str | tuple[str, ...] = (),
    data=None,
    numbers=None,
    size=None,
    **options,
) -> Figure:
    """Draw ``draw(axes, *args, **options)`` in the book's style and make a `Figure` of it.

    ``title`` is the finding, above the figure. ``alt`` is its alternative text, unless ``draw``
    returns it. ``rows`` names the recorded rows behind it ("isoflop" is data/isoflop.jsonl,
    "facts/laws" the published facts). The CSV beside the figure holds ``data``: by default the
    first frame among ``args``, else ``numbers``, a frame that also goes below the figure, folded.
    ``size`` is in inches, of which it gets `SHARE`.
    Raises ValueError without an alternative text or a caption, and for rows that are not there.
    """
    with style():
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=[SHARE * side for side in size or NOMINAL])
        try:
            returned = draw(axes, *args, **options)
            alt = alt or (returned if isinstance(returned, str) else "")
            if not alt.strip() or not caption.strip():
                raise ValueError("a figure needs an alternative text and a caption")
            readable(figure)
            picture = svg(figure)
        finally:
            plt.close(figure)
    if data is None:
        frames = [arg for arg in args if hasattr(arg, "to_csv") and hasattr(arg, "columns")]
        data = frames[0] if frames else numbers
    table = ""
    if numbers is not None:
        from sizewise.chapters.tables import display

        table = display.table(display.with_intervals(numbers)).html
    return Figure(picture, alt, caption, title, table, _csv(data), _sources(rows, draw))


def _csv(data) -> str:
    """A frame as CSV with six digits; empty where it is longer than a page should carry."""
    if data is None or not 0 < len(data) <= MOST_ROWS:
        return ""
    return data.to_csv(index=data.index.name is not None, float_format="%.6g")


def _sources(rows: str | tuple[str, ...], draw) -> tuple[str, ...]:
    """Files of the checkout behind a figure: its recorded rows, its facts, and what draws it."""
    home, files = paths.root(), []
    for stem in [rows] if isinstance(rows, str) else rows:
        names = [f"data/{stem}{suffix}" for suffix in (".jsonl", ".yml", ".csv")]
        file = next((name for name in names if (home / name).is_file()), None)
        if file is None:
            raise ValueError(f"no recorded rows or facts named {stem} in data/")
        files.append(file)
    module = getattr(draw, "__module__", None) or ""
    if module.startswith("sizewise."):
        files.append(f"book/{module.replace('.', '/')}.py")
    return tuple(files)


def readable(figure) -> None:
    """Letters of at least `LEAST` points, and no raised ones where an axis counts in powers.

    A legend of the whole figure that is too wide for it gets smaller ones.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatterSciNotation

    for text in figure.findobj(Text):
        text.set_fontsize(max(text.get_fontsize(), LEAST))
    for axis in (a for axes in figure.axes for a in (axes.xaxis, axes.yaxis)):
        for index in ("major", "minor"):
            was = getattr(axis, f"get_{index}_formatter")()
            if isinstance(was, LogFormatterSciNotation):
                getattr(axis, f"set_{index}_formatter")(_powers(was))
    for legend in figure.legends:
        while legend.get_window_extent().width > figure.bbox.width:
            for text in legend.get_texts():
                text.set_fontsize(0.97 * text.get_fontsize())
            if text.get_fontsize() < 6:
                raise ValueError("a legend is wider than its figure: give it fewer columns")


def _powers(was):
    """Ticks as ``was`` chooses them: 0.01, 100, then 1M and 1B, or 10²¹ where letters end.

    On an axis of bytes they end before B, which would not be read as a billion there. FLOPs have
    none: budgets are written as 10²¹ everywhere.
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
            compute = "flop" in named or "operations" in named
            last = 0 if compute else 1e9 if "byte" in named else 1e15
            letters = max(map(abs, self.axis.get_view_interval())) < last
            return self.fix_minus(power(x, letters)) if was(x, pos) else ""

    return Powers()


def power(value: float, letters: bool = True) -> str:
    """A number at a tick, on one line: 0.01, 100, 10K, 1B; from 10,000 on 10⁴ without letters."""
    size = abs(value)
    if letters and 1e4 <= size < 1e15:
        letter, unit = next(pair for pair in LETTERS if size >= pair[1])
        return f"{value / unit:.6g}{letter}"
    if 1e-3 <= size < 1e4 or size == 0:
        return f"{value:.6g}"
    digits, _, exponent = f"{value:e}".partition("e")
    ten = units.power_of_ten(int(exponent))
    return {1.0: ten, -1.0: f"-{ten}"}.get(float(digits), f"{float(digits):g}×{ten}")


def beside(axes, text, x, y, colour: str = INK, dx: float = 5, dy: float = 0, **options) -> None:
    """Words ``dx`` and ``dy`` points off a point: right or left of it, or centred with dx 0."""
    side = "right" if dx < 0 else "left" if dx else "center"
    options = {"ha": side, "va": "center", "textcoords": "offset points", "color": colour} | options
    axes.annotate(text, (x, y), xytext=(dx, dy), **options)


def band(axes, x, low, high, colour: str = COLOURS[0], alpha: float = 0.2) -> None:
    """An interval along a line: the space between ``low`` and ``high``."""
    axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)


def interval(axes, place, value, low, high, colour=COLOURS[0], marker="o", filled=True) -> None:
    """A value as a dot, hollow unless ``filled``, and its interval as a bar at a height."""
    axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.4)
    inside = colour if filled else "none"
    axes.plot(value, place, marker, color=colour, markersize=7, markerfacecolor=inside)


def span(axes, place: float, row, name: str, colour: str = COLOURS[0], limits=(-1e9, 1e9)) -> None:
    """The `interval` of a column of ``row`` (``_low``, ``_high``), cut at ``limits``."""
    value, low, high = (getattr(row, name + end) for end in ("", "_low", "_high"))
    interval(axes, place, value, max(low, limits[0]), min(high, limits[1]), colour)


def at_ends(axes, x, ends, apart: float, dx: float = 6) -> None:
    """Names beside the ends of lines, from the lowest up, at least ``apart`` from each other.

    ``ends`` are (name, height, colour); ``apart`` is a factor on a logarithmic axis, else a
    difference.
    """
    below = None
    for name, height, colour in sorted(ends, key=lambda end: end[1]):
        if below is not None:
            next_free = below * apart if axes.get_yscale() == "log" else below + apart
            height = max(height, next_free)
        # What was moved above the axes is drawn there.
        beside(axes, name, x, height, colour, dx, annotation_clip=False)
        below = height


def in_rows(axes, labels, top: float = -0.5) -> None:
    """A row a label, the first on top, with room above it."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, top)
    axes.grid(axis="y", visible=False)


def by_row(axes, labels, top: float, limits, label: str) -> None:
    """A row a label, from the top down with room above, and what the axis below counts."""
    in_rows(axes, labels, top)
    axes.set_xlim(*limits)
    axes.set_xlabel(label)


def listed(what: str, parts, form: str = "") -> str:
    """The alternative text of a figure: what it shows, and its numbers.

    ``parts`` are texts, or a frame whose columns fill ``form`` row by row.
    """
    texts = [form.format(**row) for row in parts.to_dict("records")] if form else parts
    return f"{what}: {'; '.join(texts)}."


def hover(points, texts) -> None:
    """Have a scatter show a text at the point that the pointer is on, in the order of the data."""
    points.set_gid(HOVER + "\n".join(map(html.escape, texts)))


def _hovered(picture: str) -> str:
    """Each text that `hover` stored in a group's name as the title of its point."""
    parts = re.split(rf'<g id="{HOVER}([^"]*)">', picture)
    for index in range(1, len(parts), 2):
        texts = iter(re.split(r"\n|&#10;", html.unescape(parts[index])))
        parts[index] = "<g>"
        parts[index + 1] = re.sub(
            r"<use ([^>]*)/>",
            lambda use, texts=texts: (
                f"<use {use[1]}><title>{text}</title></use>"
                if (text := next(texts, ""))
                else use[0]
            ),
            parts[index + 1],
        )
    return "".join(parts)


def svg(figure) -> str:
    """The figure as an ``<svg>`` element in the page's colours and fonts."""
    import io

    out = io.StringIO()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=none)
    picture = out.getvalue()
    picture = picture[picture.index("<svg") :]
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.S)
    # Inside a page, matplotlib's style sheet for "*" would apply to the whole page; the book's
    # own style sheet says the same for figures.
    picture = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", picture, flags=re.S)
    picture = _hovered(picture)
    # The same names would stand in every figure.
    picture = re.sub(r'<g id="[^"]*">', "<g>", picture)
    picture = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", picture)
    picture = picture.replace(INK, "currentColor")
    picture = re.sub(rf"stroke: {FAINT}", "stroke: currentColor; stroke-opacity: 0.15", picture)
    picture = re.sub(r' (width|height)="[\d.]+pt"', "", picture, count=2)  # the viewBox remains
    picture = re.sub(r"\n\s*\n+", "\n", picture).strip()
    return named(rounded(picture))


def rounded(picture: str) -> str:
    """SVG with places to a tenth of a point, shapes of markers to a hundredth.

    That is a fraction of a pixel. Another processor's last digits, some 1e-6 of a point, then
    give the same file; and a page is a tenth smaller.
    """
    places = re.compile(r'\b(d|x|y|width|height|points|transform|viewBox)="([^"]*)"')

    def shorten(number: re.Match, digits: int) -> str:
        return f"{round(float(number[0]), digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".")

    def in_part(part: str) -> str:
        digits = 2 if part.startswith("<defs>") else 1
        return places.sub(
            lambda match: (
                f'{match[1]}="'
                + re.sub(r"-?\d+\.\d+", lambda number: shorten(number, digits), match[2])
                + '"'
            ),
            part,
        )

    return "".join(map(in_part, re.split(r"(<defs>.*?</defs>)", picture, flags=re.DOTALL)))


def named(picture: str) -> str:
    """SVG whose names are counted, with a beginning of the figure's own.

    matplotlib names a marker by a hash of its exact shape, which differs between processors.
    Figures of one size have equal ticks; on one page names must differ.
    """
    names: dict[str, str] = {}
    pattern = re.compile(r'(\bid="|url\(#|href="#)([\w-]+)')
    for match in pattern.finditer(picture):
        names.setdefault(match[2], f"n{len(names)}")
    plain = pattern.sub(lambda match: match[1] + names[match[2]], picture)
    prefix = "f" + hashlib.sha256(plain.encode()).hexdigest()[:8]
    return pattern.sub(lambda match: f"{match[1]}{prefix}-{match[2]}", plain)
