"""The numbers behind a figure, read back from what was drawn.

`rows` walks over the finished axes, so every figure has its data without being asked for it, and
what a reader downloads is what the figure shows: clipped where it is clipped, jittered where it
is jittered. A rule across the whole axes counts as drawn; ticks, legends and titles do not.
"""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote

import numpy as np

COLUMNS = ("panel", "series", "mark", "x_axis", "x", "y_axis", "y", "value")
MOST_ROWS = 4000  # beyond this the page would carry more numbers than figure


def as_csv(figure) -> str:
    """The drawn numbers as CSV, one point a line: `COLUMNS`. Empty if there are too many.

    ``panel`` is the title of the axes or its place, ``series`` the label in the legend, ``mark``
    one of line, points, bar, interval, area, cell and text. ``value`` is the colour of a cell or
    a point as a number, or where a bar of a stack begins. An area is given by its corners, in
    order. Numbers have six digits.
    """
    found = list(islice(rows(figure), MOST_ROWS + 1))
    if not 0 < len(found) <= MOST_ROWS:
        return ""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([COLUMNS, *found])
    return out.getvalue()


def as_address(text: str) -> str:
    """The CSV as a ``data:`` address, for a link that needs no file."""
    return "data:text/csv;charset=utf-8," + quote(text, safe=" ,:;()/+*=!~_.-").replace(" ", "%20")


def rows(figure) -> Iterator[tuple]:
    """Every drawn point as a tuple of `COLUMNS`, panel by panel, in the order of drawing."""
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    for place, axes in enumerate(panels, 1):
        panel = axes.get_title() or (str(place) if len(panels) > 1 else "")
        names = axes.get_xlabel(), axes.get_ylabel()
        shown = _ticks(axes.xaxis), _ticks(axes.yaxis)
        for series, mark, x, y, value in _points(axes):
            across, up = _said(x, shown[0]), _said(y, shown[1])
            yield panel, series, mark, names[0], across, names[1], up, _said(value)


def _points(axes) -> Iterator[tuple]:
    """(series, mark, x, y, value) of every artist of the axes that stands at data coordinates."""
    named = _names_by_colour(axes)
    for box in axes.containers:
        for bar in getattr(box, "patches", ()):
            x, y, wide, high = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
            lying = getattr(box, "orientation", "vertical") == "horizontal"
            series, base = _label(box), (x if lying else y)
            at = (x + wide, y + high / 2) if lying else (x + wide / 2, y + high)
            yield series, "bar", *at, base if base else None
    for line in axes.lines:
        yield from _lined(line, named, axes)
    for drawn in axes.collections:
        yield from _collected(drawn, named, axes)
    for text in axes.texts:
        at = getattr(text, "xy", None)
        if at is not None and text.xycoords == "data" and text.get_text().strip():
            yield text.get_text(), "text", *at, None


def _lined(line, named, axes) -> Iterator[tuple]:
    x, y = (np.asarray(end, float) for end in line.get_data(orig=False))
    if line.get_transform() is not axes.transData:  # a rule from one end of the axes to the other
        at = [end[0] if len(set(end)) == 1 else None for end in (x, y)]
        yield _label(line, named), "line", *at, None
        return
    joined = line.get_linestyle() not in ("None", "", " ") and len(x) > 1
    for point in zip(x, y, strict=True):
        yield _label(line, named), "line" if joined else "points", *point, None


def _collected(drawn, named, axes) -> Iterator[tuple]:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh

    name = _label(drawn, named)
    if isinstance(drawn, PathCollection):
        values = drawn.get_array()
        for place, (x, y) in enumerate(np.ma.filled(drawn.get_offsets(), np.nan)):
            yield name, "points", x, y, None if values is None else values[place]
    elif isinstance(drawn, LineCollection):
        for segment in drawn.get_segments():
            for x, y in segment:
                yield name, "interval", x, y, None
    elif isinstance(drawn, QuadMesh):
        corners, values = drawn.get_coordinates(), np.ma.getdata(drawn.get_array())
        middle = (corners[:-1, :-1] + corners[1:, 1:]) / 2  # (rows, columns, 2)
        for (i, j), value in np.ndenumerate(values.reshape(middle.shape[:2])):
            yield name, "cell", *middle[i, j], value
    elif isinstance(drawn, PolyCollection):
        for path in drawn.get_paths():
            for x, y in path.vertices:
                yield name, "area", x, y, None


def _names_by_colour(axes) -> dict:
    """The label of each colour that the legend explains once: what shares it belongs to it."""
    found: dict = {}
    for artist in (*axes.lines, *axes.collections, *axes.containers):
        if _label(artist):
            found.setdefault(_colour(artist), set()).add(_label(artist))
    return {colour: names.pop() for colour, names in found.items() if colour and len(names) == 1}


def _label(artist, named=None) -> str:
    own = artist.get_label()
    if isinstance(own, str) and own and not own.startswith("_"):
        return own
    return (named or {}).get(_colour(artist), "")


def _colour(artist) -> str | None:
    """The artist's colour in hexadecimal; None for the ink, which belongs to no series."""
    from matplotlib.colors import to_hex

    from .style import INK

    found = _paint(artist)
    if found is None:
        return None
    shade = to_hex(found)
    return None if shade == INK else shade


def _paint(artist):
    """What an artist is painted with; None for several colours, or for none."""
    if isinstance(artist, tuple):  # a container: bars, or a line with its intervals
        parts = (part for one in artist for part in (one if isinstance(one, tuple) else (one,)))
        return next((paint for part in parts if (paint := _paint(part)) is not None), None)
    ask = getattr(artist, "get_color", None) or getattr(artist, "get_facecolor", None)
    paint = ask() if ask else None
    if np.ndim(paint) == 2:  # a collection: one colour for all, or one for each
        return paint[0] if len(np.unique(paint, axis=0)) == 1 else None
    return paint


def _ticks(axis) -> dict[float, str]:
    """The words that stand at an axis in place of numbers, by position."""
    from matplotlib.category import StrCategoryFormatter
    from matplotlib.ticker import FixedLocator

    formatter, locator = axis.get_major_formatter(), axis.get_major_locator()
    if isinstance(formatter, StrCategoryFormatter):
        return {float(at): word for word, at in axis.units._mapping.items()}
    if not isinstance(locator, FixedLocator):
        return {}
    places = [float(at) for at in locator.locs]
    words = formatter.format_ticks(places)
    # Places one apart with words that are no numbers are categories, others a scale.
    if np.allclose(np.diff(places), 1) and not any(_is_number(word) for word in words):
        return dict(zip(places, words, strict=True))
    return {}


def _is_number(word: str) -> bool:
    if "\\" in word:  # a power of ten, as matplotlib sets it
        return True
    try:
        float(word.strip("%$× ").replace(",", "").replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def _said(value, words: dict | None = None) -> str:
    """A number with six digits, the nearest word where the axis has words, nothing for nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    number = float(value)
    if np.isnan(number):
        return ""
    if words:
        near = min(words, key=lambda at: abs(at - number))
        if abs(near - number) < 0.5:
            return words[near].replace("\n", " ")
    return f"{number:.6g}"
