"""The device of this folder's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd_help import Sshd, running


@pytest.fixture(scope="module")
def sshd(clean_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("sshd"), clean_python) as found:
        yield found
