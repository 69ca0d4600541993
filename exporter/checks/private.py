"""Private copies: what is judged is what was hashed, whatever becomes of an artifact's folder during a check."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...errors import UsageError

PREFIX = "zoo-check-"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield an empty folder that only this user can enter, which is removed afterwards; TMPDIR says where.

    Those that killed checks left behind are removed first.

    Raises:
        UsageError: it cannot be made.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    except OSError as error:
        raise UsageError(
            f"{parent} takes no private copy of what is judged: {error.strerror or error}", fix="give another TMPDIR"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        matched = re.fullmatch(rf"{PREFIX}(\d+)-\w+", path.name)
        with contextlib.suppress(OSError):
            if matched and path.stat().st_uid == os.getuid() and not Path(f"/proc/{matched[1]}").exists():
                shutil.rmtree(path, ignore_errors=True)
