"""A folder made with --build-later is finished, tried and used where there is no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import tiny_model
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export

BOARD = Path(__file__).parent / "board.py"


def on_board(*command: object, cwd: Path) -> dict:
    done = subprocess.run(
        [sys.executable, str(BOARD), "10.3", *map(str, command), "--json"], cwd=cwd, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def test_build_and_predict_without_torch(tmp_path: Path) -> None:
    options = ExportOptions("fp16", Batch(1, 4, 8), build_later=True)
    (row,) = export(tiny_model(), "trt", options, out=tmp_path)
    assert row.error is None
    built = on_board("build", row.folder, cwd=tmp_path)
    assert built["exit_code"] == 0, built
    (made,) = built["artifacts"]
    assert made["built"]
    assert made["golden"]["verdict"] == "pass"
    assert made["receipt"]["layers"] == {"fp16": 21}
    answer = on_board("predict", row.folder, row.folder / "golden" / "0.png", cwd=tmp_path)
    assert answer["exit_code"] == 0, answer
    assert on_board("lint", row.folder, cwd=tmp_path)["exit_code"] == 0
    assert on_board("check", row.folder, cwd=tmp_path)["exit_code"] == 3, "the reference needs torch, and zoo says so"
    assert on_board("doctor", cwd=tmp_path)["exit_code"] == 0
