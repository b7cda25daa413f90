"""The file of answers: one JSON object a line, so that a run goes on where the last one stopped.

A row's ``id`` is a hash of what was asked: the model and where it sits, the item's words, the
settings, the number of the repeat. How an answer is marked is not part of it, so a task can be
marked by another rule without asking again.
"""

import json
import os
from pathlib import Path
from typing import Any

from sizewise.data import records

START = b'{"id": "'  # of every row
NEEDED = {
    "item",
    "repeat",
    "text",
    "failed",
    "seconds",
    "prompt_tokens",
    "answer_tokens",
}


class Answers:
    """The rows of a file, and the way to add one. A context: one process at a time writes."""

    def __init__(self, file: Path):
        self.file = file
        self.out = -1
        self.rows: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Answers":
        self.out = records.open_locked(self.file, 0o600)
        try:
            for row in records.read(self.file):
                self._keep(row)
            records.end_last_line(self.out, self.file, START)
        except OSError as error:
            os.close(self.out)
            raise ValueError(f"{self.file}: cannot be read ({error.strerror})") from None
        except BaseException:
            os.close(self.out)
            raise
        return self

    def __exit__(self, *error) -> None:
        os.close(self.out)

    def add(self, config: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        """Write one row, whole or not at all, and return it."""
        row = {"id": records.identity(config), **config, **reply}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        records.write_line(self.out, self.file, line)
        self._keep(row)
        return row

    def has(self, config: dict[str, Any]) -> bool:
        """Whether this was asked and answered. What failed is asked again."""
        row = self.rows.get(records.identity(config))
        return row is not None and not row["failed"]

    def row(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """The row of what was asked."""
        return self.rows.get(records.identity(config))

    def _keep(self, row: dict[str, Any]) -> None:
        if not isinstance(row.get("id"), str) or not row.keys() >= NEEDED:
            raise ValueError(f"{self.file}: holds rows that are no answers; name another --output")
        before = self.rows.get(row["id"])
        if before is None or before["failed"]:  # an answer stays, whatever fails later
            self.rows[row["id"]] = row
