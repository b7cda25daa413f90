"""The commands on the book itself."""

import sys
from typing import Annotated

import typer


def verify(
    renew: Annotated[
        bool, typer.Option(help="Write the manifest anew, and seal rows that have no seal.")
    ] = False,
):
    """Check that rows, facts and chapters are what was recorded: ids, seals, commits, manifest.

    One line a fault, and exit code 1 if there is one. It takes seconds and runs nothing.
    """
    from sizewise.data import verify as checks

    if renew:
        for line in checks.renew():
            print(line)
        return
    faults = checks.faults()
    for line in faults:
        print(line)
    if note := checks.unchecked():
        print(f"sizewise: {note}", file=sys.stderr)
    if faults:
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        print(f"sizewise: {count}", file=sys.stderr)
        raise typer.Exit(1)
    print(checks.summary())
