"""What several commands share: --json, and the names that the shell completes."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def models(incomplete: str) -> list[str]:
    """Names of the catalogue; files complete as usual where none begins so."""
    from sizewise.data import catalog

    return _beginning(catalog.models(), incomplete)


def chapters(incomplete: str) -> list[str]:
    """Names of chapters."""
    from sizewise import paths

    return _beginning(paths.chapters(), incomplete)


def _beginning(names, incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete.lower())]
