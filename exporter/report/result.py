"""The result of a check as plain values: what --json prints and reports are made of."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from typing import Any

from ...models.data.dataset import Dataset
from ...models.preprocess import in_mode
from ..checks.evidence import as_mapping, versions
from ..checks.run import Checked

PICTURE = 160  # pixels across, at most


def as_result(
    rows: Sequence[Checked], data: Dataset | None, images: int, command: str, exit_code: int
) -> dict[str, Any]:
    """All of a check.

    Args:
        rows: of the artifacts.
        data: what they were judged on.
        images: how many of it.
        command: that does it again.
        exit_code: of all of it.
    """
    return {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "data": {"name": data.name, "images": images} if data is not None else None,
        "versions": versions(),
        "machine": next(
            (gate.numbers["machine"] for row in rows for gate in row.gates if "machine" in gate.numbers), None
        ),
        "notes": list(data.notes) if data is not None else [],
        "artifacts": [as_mapping(row) for row in rows],
    }


def pictures_of(rows: Sequence[Checked], data: Dataset | None) -> dict[int, bytes]:
    """PNGs of the images that some artifact answers otherwise than its reference, by their index in the data."""
    if data is None:
        return {}
    wanted = {
        flip["index"]
        for row in rows
        for gate in row.gates
        if gate.name == "accuracy"
        for flip in gate.numbers.get("flips", ())
    }
    found: dict[int, bytes] = {}
    for index in sorted(wanted):
        image = in_mode(data.val.image(index), "RGB")
        image.thumbnail((PICTURE, PICTURE))
        made = io.BytesIO()
        image.save(made, "PNG")
        found[index] = made.getvalue()
    return found
