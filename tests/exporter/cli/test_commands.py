"""The real commands as a user starts them: exit codes, one JSON object, one-line errors, nothing lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ENVIRONMENT, as_json, zoo
from PIL import Image


@pytest.mark.parametrize("command", [["list"], ["list", "models"], ["doctor"]])
def test_json_without_a_model(command: list[str], tmp_path: Path) -> None:
    done = zoo(*command, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    payload = as_json(done)
    assert any(isinstance(value, list) and value for value in payload.values())
    assert zoo(*command, cwd=tmp_path).stdout == "", "people read stderr"


WRONG = [
    (["train", "resnet19", "--data", "digits"], 2, 'did you mean "resnet18"'),
    (["train", "resnet18", "--data", "digit"], 2, 'did you mean "digits"'),
    (["train", "resnet18", "--data", "digits", "--set", "epoch=1"], 2, 'did you mean "epochs"'),
    (["train", "resnet18"], 2, "--data"),
    (["export", "resnet18", "--to", "onx"], 2, 'did you mean "onnx"'),
    (["export", "resnet18", "--to", "ONNX"], 2, 'did you mean "onnx"'),
    (["export", "resnet18", "--to", "tensorrt"], 2, 'did you mean "trt"'),
    (["sensitivity", "resnet18", "--data", "digits", "--for", "Torch-Script"], 2, 'did you mean "torchscript"'),
    (["train", "ResNet18", "--data", "digits"], 2, 'did you mean "resnet18"'),
    (["export", "resnet18", "--to", "onnx", "--fp16", "--bf16"], 2, "contradict"),
    (["check", "exports", "--spec", "spec.toml"], 2, "--reference"),
    (["export", "resnet18"], 2, "Missing option '--to'"),
    (["export", "resnet18", "--to", "onnx", "--build-later"], 2, "nothing to build later"),
    (["export", "resnet18", "--to", "trt", "--batch", "8:1:4"], 2, "batch sizes must be"),
    (["export", "resnet18", "--to", "trt", "--set", "level=3"], 2, "expected BACKEND.key=value"),
    (["export", "resnet18", "--to", "trt", "--set", "tensorrt.tf32=true"], 2, "unknown backend"),
    (["export", "resnet18", "--to", "trt", "--build-later", "--int8", "--weights", "random"], 2, "--graph"),
    (["export", "resnet18", "--to", "onnx", "--input", "224"], 2, "CxHxW"),
    (["export", "resnet18", "--to", "onnx", "--images", "5"], 2, "--images: only with --int8"),
    (["export", "resnet18", "--to", "onnx", "--no-never-slower"], 2, "--no-never-slower: only with --int8"),
    (["export", "resnet18", "--to", "onnx", "--plan", "a.json"], 2, "--plan: only with --int8"),
    (
        ["export", "resnet18", "--to", "onnx", "--int8", "--data", "digits", "--max-drop", "1e-300"],
        2,
        "1e-300: no data",
    ),
    (["export", "resnet18", "--to", "onnx", "--batch", "0"], 2, "batch"),
    (["export", "resnet18", "--to", "onnx", "--colour"], 2, "No such option"),
    (["check", "nowhere"], 2, "no such artifact"),
    (["check", "exports/x/trt-fp16"], 3, "TensorRT is not installed"),
    (["predict", "resnet18", "none.png", "--weights", "random"], 2, "no such image"),
    (["evaluate", "resnet18", "--data", "digits", "--weights", "random"], 2, "random"),
    (["nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize(("command", "code", "words"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_usage(command: list[str], code: int, words: str, tmp_path: Path) -> None:
    done = zoo(*command, "--json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    payload = as_json(done)
    assert "Traceback" not in done.stderr
    told = payload["error"] if "error" in payload else payload["artifacts"][0]["error"]
    assert words in told["message"] + told["fix"]
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_zoo_alone_shows_the_help(tmp_path: Path) -> None:
    done = zoo(cwd=tmp_path)
    assert done.returncode == 2
    assert "Commands" in done.stdout + done.stderr
    assert "error" not in done.stderr


def test_cuda_that_is_not_there(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = zoo("export", "resnet18", "--to", "onnx", "--weights", "random", "--device", "cuda", "--json", cwd=tmp_path)
    assert as_json(done)["exit_code"] == 3


def test_the_main_job(trained_folder: Path, tmp_path: Path) -> None:
    """Export asks for trt too: its row has the reason, the others are done, the exit code is 3."""
    command = ["export", trained_folder, "--to", "torchscript,trt", "--data", "digits", "--json"]
    payload = as_json(zoo(*command, cwd=tmp_path))
    assert payload["exit_code"] == 3
    made, missing = payload["artifacts"]
    assert made["golden"]["verdict"] == "pass"
    assert "TensorRT" in missing["error"]["message"]
    assert payload["seconds"] >= made["seconds"], "the whole, with loading and golden images"
    folder = made["artifact"]
    assert folder == "exports/tiny/torchscript-fp32"

    replaced = as_json(zoo(*command[:2], "--to", "torchscript", "--json", cwd=tmp_path))
    assert replaced["artifacts"][0]["replaced"] is True

    checked = as_json(zoo("check", folder, "exports/tiny/trt-fp32", "--data", "digits", "--json", cwd=tmp_path))
    assert checked["exit_code"] == 3
    row = checked["artifacts"][0]
    assert {"artifact", "backend", "precision", "gates"} <= set(row)
    verdicts = {gate["name"]: gate["verdict"] for gate in row["gates"]}
    assert verdicts.pop("labels") in ("pass", "skipped"), "it learnt too little to tell"
    assert verdicts == dict.fromkeys(["numerics", "accuracy", "consistency", "preprocessing", "precision"], "pass")
    assert all(gate["reason"] for gate in row["gates"])

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8))
    image.save(tmp_path / "an image.png")
    for what in (str(trained_folder), folder):
        answers = as_json(zoo("predict", what, "an image.png", "--top", "3", "--json", cwd=tmp_path))["predictions"]
        assert [len(answer["top"]) for answer in answers] == [3]
        assert sum(one["probability"] for one in answers[0]["top"]) <= 1.0001

    done = as_json(zoo("evaluate", folder, "--data", "digits", "--out", "evaluated", "--json", cwd=tmp_path))
    assert sorted(path.name for path in (tmp_path / "evaluated").iterdir()) == [
        "confusion.png",
        "metrics.json",
        "tsne.png",
    ]
    assert sum(map(sum, done["confusion"])) == done["images"] == 359
    assert 0 < done["macro_recall"] <= 1


@pytest.mark.parametrize(
    ("kill", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_training_that_is_stopped_can_be_resumed(kill: signal.Signals, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoo", "train", "mobilenet_v3_small", "--data", "digits", "--epochs", "2"]
    command += ["--out", "run", "--set", "batch_size=100", "--stem", "paper", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kill)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert json.loads(out)["exit_code"] == code
    assert "Traceback" not in errors
    again = as_json(zoo(*command[3:], "--resume", cwd=tmp_path))
    assert again["exit_code"] == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_libraries_cannot_spoil_the_json(tmp_path: Path) -> None:
    (tmp_path / "user_loud.py").write_text(
        "import os\nfrom zoo.models.registry import create_model\n"
        "print('hello from a factory')\nos.write(1, b'and from C')\n"
        "def make(): return create_model('mobilenet_v3_small', num_classes=3, stem='small')\n"
    )
    command = ["export", "user_loud:make", "--to", "torchscript", "--input", "3x32x32", "--json"]
    payload = as_json(zoo(*command, cwd=tmp_path))
    assert payload["exit_code"] == 0
    assert "assumed" in payload["notes"][0]


def test_a_closed_pipe_does_not_change_the_exit_code(tmp_path: Path) -> None:
    script = 'set -o pipefail; "$0" -m zoo check nowhere --json | true'
    done = subprocess.run(["bash", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2


def test_a_factory_that_exits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "user_exit.py").write_text("import sys\ndef make(): sys.exit(0)\n")
    assert as_json(zoo("export", "user_exit:make", "--to", "torchscript", "--json", cwd=tmp_path))["exit_code"] == 2


def test_evaluate_overwrites_only_evaluations(trained_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.json").write_text("{}")
    done = zoo("evaluate", trained_folder, "--data", "digits", "--out", "mine", "--json", cwd=tmp_path)
    assert as_json(done)["exit_code"] == 2
    assert (tmp_path / "mine" / "metrics.json").read_text() == "{}"


class TestTensorRT:
    """The commands on a machine without TensorRT."""

    def run(self, *arguments: object, cwd: Path) -> dict:
        return as_json(zoo(*map(str, arguments), "--json", cwd=cwd))

    def test_export_says_what_to_do_and_ends_with_3(self, tmp_path: Path) -> None:
        shape = ("--weights", "random", "--input", "3x64x64")
        done = self.run("export", "resnet18", "--to", "trt", "--fp16", *shape, cwd=tmp_path)
        assert done["exit_code"] == 3
        assert "--build-later" in done["artifacts"][0]["error"]["fix"]

    def test_build_later_lint_and_build(self, trained: Path, tmp_path: Path) -> None:
        options = ("--to", "trt,onnx", "--fp16", "--build-later", "--batch", "1:4:8", "--set", "trt.tf32=true")
        done = self.run("export", trained, *options, cwd=tmp_path)
        assert done["exit_code"] == 0, done
        first, second = done["artifacts"]
        assert (first["built"], second["built"]) == (False, True)
        assert first["golden"]["verdict"] == "pass"
        folder = first["artifact"]
        manifest = json.loads((tmp_path / folder / "artifact.json").read_text())
        assert manifest["batch"] == {"min": 1, "opt": 4, "max": 8}
        assert manifest["options"]["build"]["tf32"] is True
        done = self.run("lint", folder, cwd=tmp_path)
        assert (done["exit_code"], done["errors"], done["findings"]) == (0, 0, [])
        for command, code in (
            (["build", folder], 3),
            (["build", folder, "--device", "cpu"], 3),
            (["build", second["artifact"]], 2),
            (["build", "nowhere"], 2),
            (["check", folder], 3),
            (["predict", folder, f"{folder}/golden/0.png"], 3),
        ):
            assert self.run(*command, cwd=tmp_path)["exit_code"] == code, command

    def test_lint_ends_with_4_on_errors(self, tmp_path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], "det")], "g", ends[:1], ends[1:])
        onnx.save(helper.make_model(graph), tmp_path / "bad.onnx")
        done = self.run("lint", "bad.onnx", cwd=tmp_path)
        assert done["exit_code"] == 4
        assert "no Det" in json.dumps(done["findings"])
        (tmp_path / "text.onnx").write_text("hello")
        assert self.run("lint", "text.onnx", cwd=tmp_path)["exit_code"] == 2
        assert self.run("lint", "bad.onnx", "--for", "onyx", cwd=tmp_path)["exit_code"] == 2


def test_test_time_flip_is_for_images_that_may_be_flipped(trained_folder: Path, tmp_path: Path) -> None:
    done = zoo("evaluate", trained_folder, "--data", "digits", "--test-flip", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert as_json(done)["error"]["message"] == "a mirrored image of digits is not of the same class"
