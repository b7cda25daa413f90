"""What the page calls a law: author and year, with a link to the source, instead of its key."""

from functools import cache

from sizewise import paths, scaling_laws

from .parts import Named

# An entry of data/facts/laws.yml whose law is not of the source in which it was read.
OF = {"hoffmann-3-tex": "hoffmann2022"}
# What tells apart laws of one paper, or says which of its laws it is.
WHICH = {
    "hoffmann-3": "rounded as printed",
    "hoffmann-3-tex": "all digits",
    "muennighoff-c4": "repeated text",
    "krajewski-dense": "dense models",
}
REFITS = "../chapters/scaling-laws.html"  # from the page of calculators


def law(name: str) -> Named:
    """The name of one law: "Hoffmann et al. (2022), all digits, in Epoch AI (2024)"."""
    if name not in scaling_laws.entries():
        return Named(((f"Our {name}", REFITS),))
    source = scaling_laws.entries()[name]["source"]
    whose = OF.get(name, source)
    parts = [(authors(whose), f"cite:{whose}")]
    if name in WHICH:
        parts.append((f", {WHICH[name]}", ""))
    if source != whose:
        parts += [(", in ", ""), (authors(source), f"cite:{source}")]
    return Named(tuple(parts))


@cache
def authors(key: str) -> str:
    """An entry of book/references.bib as running text names it: "Hoffmann et al. (2022)"."""
    from pybtex.database import parse_file

    entry = parse_file(str(paths.root() / "book" / "references.bib")).entries[key]
    names = [" ".join(map(str, person.rich_last_names)) for person in entry.persons["author"]]
    words = (
        " and ".join(names) if len(names) <= 2 and "others" not in names else f"{names[0]} et al."
    )
    return f"{words} ({entry.fields['year']})"
