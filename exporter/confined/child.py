"""What runs in a confined child: walls first, then the module that was asked for, then one answer.

`python -m zoo.exporter.confined.child` reads its task as JSON from stdin and writes lines of JSON to the descriptor
that the task names: what it tells, then {"answer": ...} or {"error": ...}. Such a module has a function
`answer(task, inside)`, which returns what JSON can hold.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

from ...errors import ZooError
from .walls import close_in


class Inside:
    """What a module in a child may say and use.

    Args:
        out: where its lines go.
        descriptors: of the files that were handed over, opened for reading.
    """

    def __init__(self, out: IO[str], descriptors: list[int]) -> None:
        self._out = out
        self._descriptors = descriptors

    def file(self, index: int) -> IO[bytes]:
        """A file that was handed over, open: no right to its path is needed."""
        return os.fdopen(self._descriptors[index], "rb")

    def ready(self) -> None:
        """Say that the libraries are loaded: from now on the time counts."""
        self.say({"ready": True})

    def tell(self, text: str) -> None:
        """Say what is done now."""
        self.say({"tell": text})

    def say(self, line: Mapping[str, Any]) -> None:
        """Write a line."""
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def main() -> None:
    """Do the task on stdin."""
    given = json.load(sys.stdin)
    inside = Inside(os.fdopen(given["out"], "w", encoding="utf-8"), given["descriptors"])
    limits = {name: given[name] for name in ("memory_mb", "file_mb", "seconds", "parent")}
    inside.say({"walls": asdict(close_in(given["reads"], given["writes"], **limits))})
    try:
        line = {"answer": importlib.import_module(given["module"]).answer(given["task"], inside)}
    except ZooError as error:
        line = {"error": error.as_mapping()}
    except MemoryError:
        line = {"ended": f"needed more than the {given['memory_mb']:,} MB it may have"}
    except Exception:  # noqa: BLE001 - whatever it is, the parent says it
        line = {"broke": traceback.format_exc()[-4000:]}
    inside.say(line)
    os._exit(0)  # threads of a runtime may still run: nothing of them is needed


if __name__ == "__main__":
    main()
