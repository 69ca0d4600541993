"""A package run by Python in an environment of its own, where torch, onnx and zoo are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import as_json, zoo
from zoo.exporter.package.code import RUNTIME
from zoo.exporter.package.pack import pack
from zoo.exporter.runtime.main import beside_latency
from zoo.exporter.timing.statistics import interval_of_median


@pytest.fixture(scope="module")
def packed(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "tiny.zoo"
    return pack([exported_folders["torchscript"], exported_folders["onnx"]], out).path


def run(python: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(python), *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd, env=environment,
        timeout=120,
    )  # fmt: skip


def test_it_answers_as_zoo_predict_does(packed, exported_folders, clean_python: Path, tmp_path: Path) -> None:
    image = exported_folders["onnx"] / "golden" / "0.png"
    done = run(clean_python, packed, "predict", image, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mine = json.loads(done.stdout)["predictions"][0]["top"]
    wanted = as_json(zoo("predict", exported_folders["onnx"], image, "--json", cwd=tmp_path))["predictions"][0]["top"]
    assert mine == wanted, "the same answers and the same probabilities"


def test_it_leaves_nothing_behind(packed, exported_folders, clean_python: Path, tmp_path: Path) -> None:
    """ONNX Runtime alone would: a device id and a queue of events, in the user's cache."""
    image = exported_folders["onnx"] / "golden" / "0.png"
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run([clean_python, packed, "predict", image], capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []
    command = [sys.executable, "-m", "zoo", "predict", exported_folders["onnx"], image]
    environment = {**os.environ, "HOME": str(home)} | {"XDG_CACHE_HOME": str(home / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    assert subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0
    assert not [path for path in home.rglob("*") if "Microsoft" in path.name]


@pytest.mark.slow
def test_it_verifies_and_times_itself(packed: Path, clean_python: Path, tmp_path: Path) -> None:
    done = run(clean_python, packed, "verify", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = {gate["name"]: gate["verdict"] for gate in json.loads(done.stdout)["gates"]}
    assert verdicts["samples onnx-fp32"] == "pass"
    assert verdicts["samples torchscript-fp32"] == "skipped", "no torch here, and that is said"
    done = run(clean_python, packed, "profile", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert row["interval"][0] <= row["percentiles"]["p50"] <= row["interval"][1]
    assert row["runs"] >= 100
    done = run(clean_python, packed, "profile", "--batch", "2", "--batch", "1", "--per-layer", cwd=tmp_path)
    assert "batch 2: p50" in done.stdout
    assert "batch 1: p50" in done.stdout
    assert "Conv" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict", "none.png"], 2, "no such image"),
        (["predict", "note.txt"], 2, "cannot be decoded"),
        (["predict", "note.txt", "--top", "0"], 2, "--top must be"),
        (["verify", "--artifact", "onnx-int8"], 2, "no artifact"),
        (["verify", "--artifact", "torchscript-fp32"], 6, ""),
        (["profile", "--artifact", "torchscript-fp32"], 2, "is a program"),
        (["profile", "--artifact", "torchscript-fp32", "--allow-code"], 3, "torch is not installed"),
        (["profile", "--batch", "0"], 2, "--batch must be"),
        (["predict", "a\nb"], 2, "error: a b: no such image"),
        (["verify", "extra"], 2, "unrecognized arguments"),
        ([], 2, "predict"),
        (["serve"], 2, "invalid choice"),
    ],
)
def test_wrong_use_is_one_line(packed, clean_python, tmp_path: Path, arguments, code: int, words: str) -> None:
    (tmp_path / "note.txt").write_text("no image")
    done = run(clean_python, packed, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    done = run(clean_python, packed, *arguments, "--json", cwd=tmp_path)
    assert done.returncode == code or not arguments
    assert json.loads(done.stdout)["exit_code"] == done.returncode, "one object, on failure too"


def test_the_modules_that_travel_import_nothing_that_does_not(packed: Path, clean_python: Path, tmp_path: Path) -> None:
    names = [f"zoo.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}" for name in RUNTIME
             if name != "__init__.py"]  # fmt: skip
    code = f"import sys; sys.path.insert(0, {str(packed)!r})\nfor name in {names!r}: __import__(name)\n"
    code += "assert 'onnxruntime' not in sys.modules and 'torch' not in sys.modules"
    done = run(clean_python, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    import numpy as np

    random = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ordered = np.sort(random.exponential(size=101)).tolist()
        low, high = interval_of_median(ordered)
        held += low <= np.log(2) <= high
    assert held >= 0.94 * 400


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("predict IMAGE | true", 0),
        ("predict IMAGE >/dev/full", 2),
        ("predict IMAGE >&-", 2),
        ("predict none.png 2>&-", 2),
        ("predict none.png 2>/dev/full", 2),
        ("predict none.png --json | true", 2),
    ],
)
def test_nobody_listens(packed, exported_folders, clean_python: Path, tmp_path: Path, line: str, code: int) -> None:
    image = exported_folders["onnx"] / "golden" / "0.png"
    script = f"set -o pipefail; {clean_python} {packed} {line.replace('IMAGE', str(image))}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("microseconds", "median", "words"),
    [
        (5200.0, 16.81, "5.20 ms together, less than the latency of 16.81 ms"),
        (5200.0, 1.63, "5.20 ms together, more than the latency of 1.63 ms"),
        (5200.0, 5.0, "5.20 ms together, about the latency of 5.00 ms"),
        (5200.0, None, "5.20 ms together"),
        (5200.0, 0.0, "5.20 ms together"),
    ],
)
def test_operators_are_compared_with_the_latency(microseconds: float, median: float | None, words: str) -> None:
    found = beside_latency(microseconds, median)
    assert found.startswith(words)
    assert ("more" in found, "less" in found) == ("more" in words, "less" in words)
