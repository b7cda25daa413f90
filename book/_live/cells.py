"""A chapter's code cells run one by one in a browser, each one's outputs as HTML.

Stands in for what a kernel brings: IPython's display and myst-nb's glue. The published facts in
the archive are JSON under their old names, so `yaml` here reads JSON.
"""

import ast
import datetime
import html
import io
import json
import sys
import types
from contextlib import redirect_stdout

outputs: list[str] = []


def show(value) -> None:
    """Add what a notebook shows for a value to the outputs of the cell."""
    if value is None:
        return
    bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else {}
    text = bundle.get("text/html") if isinstance(bundle, dict) else bundle[0].get("text/html")
    if text is None and hasattr(value, "_repr_html_"):
        text = value._repr_html_()
    outputs.append(text or f"<pre>{html.escape(repr(value))}</pre>")


def show_all(*values, **_) -> None:
    """What IPython's display does: it gives nothing back that a cell could end in."""
    for value in values:
        show(value)


def stand_in(name: str, **members) -> None:
    module = sys.modules[name] = types.ModuleType(name)
    module.__dict__.update(members)


def install() -> None:
    """Put the stand-ins where the library imports them from."""
    stand_in("myst_nb", glue=lambda name, value, display=True: None)
    stand_in("IPython", get_ipython=lambda: None, version_info=(8, 24, 0))
    stand_in("IPython.display", display=show_all)
    stand_in("yaml", SafeLoader=None, load=read, safe_load=read)


def read(stream, Loader=None):
    """Facts in JSON, where a date is {"date": ISO}."""
    text = stream if isinstance(stream, str) else stream.read()
    return json.loads(text, object_hook=_dated)


def _dated(entry: dict):
    only_date = entry.keys() == {"date"} and isinstance(entry["date"], str)
    return datetime.date.fromisoformat(entry["date"]) if only_date else entry


def run(source: str, names: dict) -> str:
    """Run one cell in ``names`` and return its outputs as HTML. Raises what the cell raises."""
    outputs.clear()
    tree = ast.parse(source)
    last = tree.body.pop().value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - the reader's own cell
        if last is not None:
            show(eval(compile(ast.Expression(last), "cell", "eval"), names))  # noqa: S307
    if printed.getvalue():
        outputs.insert(0, f"<pre>{html.escape(printed.getvalue())}</pre>")
    return "\n".join(outputs)
