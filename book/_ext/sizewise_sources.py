"""Which recorded rows and published facts stand behind a figure, read from the chapter's code.

From the statement that draws, backwards over the statements that made what it names; in each, the
stems given to `records`, directly or by a function of the library that is called there. Nothing is
run. What a statement might have used counts as used.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

READERS = {"read", "table", "facts", "facts_csv", "path"}  # of sizewise.data.records
IMPORTS = (ast.Import, ast.ImportFrom)


def behind(statements: list[ast.stmt], home: Path) -> list[str]:
    """The files behind the last statement: rows with their scripts, and facts, from ``home``."""
    modules = _modules(statements, home)
    stems = [stem for one in reached(statements) for stem in _stems(one, modules)]
    return files_of(stems, home)


def drawn_by(statements: list[ast.stmt], home: Path) -> str | None:
    """The library's file with the function that the last statement has `style.show` draw with."""
    modules = _modules(statements, home)
    for one in reversed(reached(statements)):
        for call in ast.walk(one):
            shown = (
                isinstance(call, ast.Call) and call.args and isinstance(call.func, ast.Attribute)
            )
            if shown and call.func.attr == "show" and _root(call.func) == "style":
                file = modules.get(_root(call.args[0]) or "")
                return file.relative_to(home).as_posix() if file else None
    return None


def reached(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The last statement and those that its names were made by, in their order."""
    *before, last = statements
    imports = [one for one in before if isinstance(one, IMPORTS)]
    modules = {(name.asname or name.name).split(".")[0] for one in imports for name in one.names}
    wanted, found = _loads(last), [last]
    for one in reversed(before):
        if isinstance(one, IMPORTS) or not (_makes(one) - modules) & wanted:
            continue
        if isinstance(one, ast.Assign):  # a plain assignment: what the name meant before is gone
            wanted -= {target.id for target in one.targets if isinstance(target, ast.Name)}
        wanted |= _loads(one)
        found.append(one)
    return found[::-1]


def files_of(stems: list[str], home: Path) -> list[str]:
    """The files with these stems, as paths from the checkout."""
    files = []
    for stem in dict.fromkeys(stems):
        if (home / "data" / f"{stem}.jsonl").is_file():
            files += [f"data/{stem}.jsonl", f"scripts/{stem}.py"]
        files += [f"data/facts/{stem}.yml", f"data/facts/{stem}.csv"]
    return [file for file in files if (home / file).is_file()]


def _stems(node: ast.AST, modules: dict[str, Path]) -> list[str]:
    """What the calls in a statement read: ``records.table("stem")``, ``module.function()``."""
    found = []
    for call in ast.walk(node):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        where, what = _root(call.func), call.func.attr
        if where == "records" and what in READERS:
            found += [a.value for a in call.args if isinstance(a, ast.Constant)]
        elif where in modules and isinstance(call.func.value, ast.Name):
            found += _library(modules[where]).get(what, [])
    return found


@cache
def _library(file: Path) -> dict[str, list[str]]:
    """For each function of a module: the stems that it reads, itself or by another one of it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = {
        one.targets[0].id: one.value.value
        for one in tree.body
        if isinstance(one, ast.Assign)
        and isinstance(one.targets[0], ast.Name)
        and isinstance(one.value, ast.Constant)
    }
    functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}

    def stems(name: str, asked: frozenset) -> list[str]:
        function, found = functions[name], []
        names = known | _defaults(function, known)
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            if isinstance(call.func, ast.Attribute) and _root(call.func) == "records":
                if call.func.attr in READERS:
                    found += [_constant(one, names) for one in call.args]
            elif (called := getattr(call.func, "id", None)) in functions and called not in asked:
                found += stems(called, asked | {name})
        return [one for one in found if isinstance(one, str)]

    return {name: stems(name, frozenset({name})) for name in functions}


def _defaults(function: ast.FunctionDef, known: dict) -> dict:
    named = function.args.args[len(function.args.args) - len(function.args.defaults) :]
    pairs = zip(named, function.args.defaults, strict=True)
    return {argument.arg: _constant(value, known) for argument, value in pairs}


def _constant(node: ast.AST, names: dict):
    if isinstance(node, ast.Constant):
        return node.value
    return names.get(node.id) if isinstance(node, ast.Name) else None


def _modules(statements: list[ast.stmt], home: Path) -> dict[str, Path]:
    """The library's modules that were imported, by the name they have in the chapter."""
    found = {}
    for one in statements:
        if isinstance(one, ast.ImportFrom) and (one.module or "").split(".")[0] == "sizewise":
            folder = home.joinpath("book", *one.module.split("."))
            files = {name.asname or name.name: folder / f"{name.name}.py" for name in one.names}
            found |= {name: file for name, file in files.items() if file.is_file()}
    return found


def _loads(node: ast.AST) -> set[str]:
    """The names that a statement uses, without those that live inside it only."""
    named = {
        one.id
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)
    }
    return named - _inner(node)


def _inner(node: ast.AST) -> set[str]:
    """The names of comprehensions and the arguments of functions."""
    inner = set()
    for one in ast.walk(node):
        if isinstance(one, ast.comprehension):
            inner |= {name.id for name in ast.walk(one.target) if isinstance(name, ast.Name)}
        elif isinstance(one, ast.arg):
            inner.add(one.arg)
    return inner


def _makes(node: ast.stmt) -> set[str]:
    """The names that a statement binds, or changes in place: x = ..., x[...] = ..., x.add(...)."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    made = set()
    for one in ast.walk(node):
        if isinstance(getattr(one, "ctx", None), ast.Store):
            made.add(_root(one))
        elif isinstance(one, ast.Expr) and isinstance(one.value, ast.Call):
            made.add(_root(one.value.func))
    return made - {None} - _inner(node)


def _root(node: ast.AST) -> str | None:
    """The name that an expression such as x[0].y begins with."""
    while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
