"""A third party's backend goes through all of zoo without a change in exporter/: docs/backends.md, run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOY = ROOT / "tests" / "toy"
DOCS = ROOT / "docs" / "backends.md"

MODEL = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()
"""
PIPELINE = """
[pipeline]
out = "out"
data = "digits"

[steps.tiny]
do = "source"
source = ["tiny:make"]
input = "3x16x16"

[steps.exports]
do = "export"
from = "tiny"
to = ["toy", "onnx"]
precision = ["fp32", "int8"]
images = 50

[steps.checks]
do = "check"
from = "exports"
limit = 40
"""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("toy")
    (found / "tiny.py").write_text(MODEL)
    (found / "pipeline.toml").write_text(PIPELINE)
    return found


def ran(arguments: Sequence[str], place: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TOY), "ZOO_CACHE": str(place / "cache")}
    done = subprocess.run(
        [sys.executable, "-P", *arguments], capture_output=True, text=True, check=False, cwd=place, env=environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def zoo(*arguments: str, place: Path, code: int = 0) -> dict:
    done = ran(["-m", "zoo", *arguments, "--json"], place, code)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def artifacts(place: Path) -> list[str]:
    given = ("tiny:make", "--input", "3x16x16", "--data", "digits", "--to", "toy")
    zoo("export", *given, place=place)
    made = zoo("export", *given, "--int8", "--images", "50", place=place)
    assert "int8" in json.dumps(made)
    folder = place / "exports" / "tiny-make"
    manifest = json.loads((folder / "toy-int8" / "artifact.json").read_text())
    assert any("times as fast as float" in line for line in manifest["options"]["int8"]["timed"]), "never-slower timed"
    return [str(folder / name) for name in ("toy-fp32", "toy-int8")]


def test_list_and_doctor_and_the_nearest_name(place: Path) -> None:
    listed = {row["name"]: row for row in zoo("list", "backends", place=place)["backends"]}
    assert listed["toy"] == {"name": "toy", "what": "model.toy, run in numpy", "built in": False}
    assert any(row["what"] == "backend toy" and row["works"] for row in zoo("doctor", place=place)["machine"])
    wrong = zoo("export", "tiny:make", "--to", "toi", place=place, code=2)
    assert "toy" in wrong["error"]["message"] + wrong["error"]["fix"]


def test_every_gate_and_the_report(place: Path, artifacts: list[str]) -> None:
    found = zoo("check", *artifacts, "--data", "digits", "--limit", "40", "--latency", "--rounds", "10",
                "--against", artifacts[0], "--html", "report.html", place=place, code=4)  # fmt: skip
    for row in found["artifacts"]:
        verdicts = {gate["name"]: gate["verdict"] for gate in row["gates"]}
        assert row["backend"] == "toy"
        assert verdicts["numerics"] == verdicts["precision"] == verdicts["preprocessing"] == "pass"
        assert verdicts["consistency"] == verdicts["accuracy"] == "pass"
    slower = found["artifacts"][1]["gates"]
    latency = next(gate for gate in slower if gate["name"] == "latency")
    assert latency["verdict"] == "fail", "numpy rounds to integers and back: int8 is slower than float there"
    assert latency["against"] == "toy-fp32"
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "toy-int8" in page


def test_package_verify_profile_and_without_zoo(place: Path, artifacts: list[str]) -> None:
    zoo("package", *artifacts, "--out", "toy.zoo", "--overwrite", place=place)
    proved = zoo("verify", "toy.zoo", place=place)
    verdicts = {gate["name"]: gate["verdict"] for gate in proved["gates"]}
    assert verdicts["samples toy-fp32"] == verdicts["samples toy-int8"] == verdicts["code"] == "pass"
    profiled = zoo("profile", "toy.zoo", place=place)
    assert "numpy" in json.dumps(profiled)
    told = ran(["toy.zoo", "verify"], place).stdout
    assert "samples toy-int8" in told
    assert "toy-int8" in ran(["toy.zoo", "profile", "--artifact", "toy-int8"], place).stdout


def test_a_pipeline_with_a_matrix(place: Path) -> None:
    zoo("run", "pipeline.toml", place=place)
    made = {path.parent.name for path in (place / "out" / "exports").rglob("artifact.json")}
    assert made == {"toy-fp32", "toy-int8", "onnx-fp32", "onnx-int8"}
    assert "toy-int8" in (place / "out" / "report.html").read_text(encoding="utf-8")


def test_a_broken_file_is_one_line(place: Path, artifacts: list[str]) -> None:
    model = Path(artifacts[0]) / "model.toy"
    content = model.read_bytes()
    try:
        model.write_bytes(content[:-9])
        assert "was changed" in json.dumps(zoo("check", artifacts[0], place=place, code=5))
    finally:
        model.write_bytes(content)


def test_the_page_has_the_record_and_the_table_as_they_are() -> None:
    from zoo.exporter.backends.infos import BACKENDS, backend_info
    from zoo.exporter.backends.table import as_markdown

    page = DOCS.read_text(encoding="utf-8")
    assert (TOY / "toy_backend" / "info.py").read_text(encoding="utf-8").strip() in page
    assert as_markdown(backend_info(name) for name in BACKENDS) in page


def test_the_table_has_a_row_of_it(place: Path) -> None:
    words = "from zoo.exporter.backends import infos, table; print(table.as_markdown(infos.backend_infos()))"
    assert "| `toy` | model.toy | numpy | fp32, int8 | fp32 on cpu | yes |" in ran(["-c", words], place).stdout


def test_a_backend_that_cannot_be_imported_stops_no_other(place: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[zoo.backends]\nbroken = no_such_module:INFO\nempty = json:loads\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "zoo", "list", "backends", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place, env=environment)
    assert {row["name"] for row in json.loads(done.stdout)["backends"]} == {"eager", "torchscript", "onnx", "trt"}
    for name, words in (("broken", "cannot be loaded"), ("empty", "has no BackendInfo")):
        done = subprocess.run(
            [*command[:4], "export", "tiny:make", "--to", name], capture_output=True, text=True, check=False, cwd=place,
            env=environment,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
