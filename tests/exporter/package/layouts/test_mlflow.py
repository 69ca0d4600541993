"""MLflow loads and serves what --layout mlflow wrote, and a JPEG gets the answers that the package gives in process."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import as_json, zoo
from PIL import Image
from zoo.errors import UsageError
from zoo.exporter.package.layouts.mlflow import write_model
from zoo.exporter.package.pack import pack
from zoo.exporter.runtime.container import Package
from zoo.exporter.runtime.predictor import Predictor

ENVIRONMENT = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="module")
def model(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mlflow") / "model"
    done = zoo("package", exported_folders["onnx"], "--layout", "mlflow", "--out", out, "--json", cwd=out.parent)
    assert done.returncode == 0, done.stderr
    assert as_json(done)["model"] == str(out)
    return out


@pytest.fixture(scope="module")
def jpeg(exported_folders: dict[str, Path]) -> bytes:
    with Image.open(exported_folders["onnx"] / "golden" / "1.png") as image:
        image.convert("RGB").save(made := io.BytesIO(), "JPEG", quality=95)
    return made.getvalue()


@pytest.fixture(scope="module")
def wanted(exported_folders: dict[str, Path], jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = pack([exported_folders["onnx"]], tmp_path_factory.mktemp("p") / "p.zoo").path
    with Package(path) as package, Image.open(io.BytesIO(jpeg)) as image:
        return Predictor(package).answers([image], 1)[0][0]


LOAD = """
import json, sys, mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
got = model.predict(pandas.DataFrame({"image": [open(sys.argv[2], "rb").read()]}))
assert "torch" not in sys.modules and "zoo" not in sys.modules
print(json.dumps(got.to_dict("records")))
"""


def test_it_loads_and_predicts_without_zoo_or_torch(model: Path, jpeg: bytes, wanted: dict, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    command = [sys.executable, "-c", LOAD, str(model), "a.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert row["label"] == wanted["label"]
    assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-9)
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert row["probabilities"][wanted["index"]] == row["probability"]


def test_signature_and_example_are_in_it_and_no_pickle(model: Path) -> None:
    text = (model / "MLmodel").read_text()
    assert "loader_module: mlflow_model" in text
    assert "binary" in text
    assert (model / "input_example.json").is_file()
    assert not [path for path in model.rglob("*") if path.suffix in (".pkl", ".pickle")]
    assert "onnxruntime" in (model / "requirements.txt").read_text()


@pytest.mark.slow
@pytest.mark.enable_socket
def test_a_jpeg_sent_to_mlflow_gets_the_packages_label(model: Path, jpeg: bytes, wanted: dict, tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", str(port), "-h", "127.0.0.1",
               "--env-manager", "local"]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(
        command, cwd=tmp_path, env={**ENVIRONMENT, "PATH": path}, stdout=log, stderr=log, start_new_session=True
    ) as server:  # fmt: skip
        try:
            body = json.dumps(
                {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(jpeg).decode()]]}}
            ).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
            )
            answer = None
            for _ in range(120):
                assert server.poll() is None, (tmp_path / "log").read_text()
                try:
                    with urllib.request.urlopen(request, timeout=10) as response:
                        answer = json.loads(response.read())
                    break
                except urllib.error.HTTPError as error:
                    raise AssertionError(error.read().decode()) from error
                except OSError:
                    time.sleep(0.5)
            assert answer is not None, (tmp_path / "log").read_text()
        finally:
            os.killpg(server.pid, 15)
    (row,) = answer["predictions"]
    assert row["label"] == wanted["label"]
    assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-6)


def test_what_is_in_the_way_or_does_not_run(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").touch()
    with pytest.raises(UsageError, match="is in the way"):
        write_model([exported_folders["onnx"]], tmp_path / "m")
    with pytest.raises(UsageError, match="would serve torchscript"):
        write_model([exported_folders["torchscript"]], tmp_path / "n")
    assert not (tmp_path / "n").exists()
