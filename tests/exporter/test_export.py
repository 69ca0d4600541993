"""What an export says of places that cannot be written to."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.exporter.backends.onnx.backend import Onnx
from zoo.exporter.export import export
from zoo.models.sources import Model


def test_a_file_as_out_is_wrong_usage_of_each_backend(tiny: Model, tmp_path: Path) -> None:
    (tmp_path / "net.py").touch()
    rows = export(tiny, ["onnx", "torchscript"], out=tmp_path / "net.py")
    assert [type(row.error) for row in rows] == [UsageError, UsageError]
    assert "net.py is a file" in str(rows[0].error)
    assert str(rows[0].error).endswith("; choose another place")


@pytest.mark.parametrize(
    ("code", "filename", "words"),
    [
        (errno.ENOSPC, None, "{out}/resnet18/onnx-fp32: No space left on device; free space"),
        (errno.EROFS, "{out}/resnet18/.onnx-fp32.0.tmp/model", "{out}/resnet18/onnx-fp32: Read-only file system; "),
        (errno.ENOSPC, "/elsewhere/cache", "/elsewhere/cache: No space left on device; free space"),
        (errno.ECONNRESET, None, "this is a fault of zoo"),
    ],
)
def test_a_full_disk_is_no_fault_of_zoo(
    code: int, filename: str | None, words: str, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        text = {errno.ENOSPC: "No space left on device", errno.EROFS: "Read-only file system"}.get(code, "reset")
        raise OSError(code, text, *([filename.format(out=tmp_path)] if filename else []))

    monkeypatch.setattr(Onnx, "_export", full)
    row = export(tiny, "onnx", out=tmp_path)[0]
    assert words.format(out=tmp_path) in str(row.error)
    assert row.exit_code == (1 if "fault" in words else 2)
