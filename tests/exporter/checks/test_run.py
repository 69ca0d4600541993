"""Real artifacts, real faults: each is found by the gate that should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import reseal, tiny_model
from zoo.errors import GATE, INTEGRITY, UNAVAILABLE, USAGE
from zoo.exporter.artifact.folder import read_manifest
from zoo.exporter.checks.run import Checked, check
from zoo.models.data.dataset import Dataset
from zoo.models.sources import rebuild
from zoo.models.weights import digest


def gates(row: Checked) -> dict[str, str]:
    assert row.error is None, row.error
    usual = [("precision", "pass"), ("consistency", "pass"), ("preprocessing", "pass")]
    usual += [("labels", "pass"), ("labels", "skipped")]
    return {gate.name: gate.verdict for gate in row.gates if (gate.name, gate.verdict) not in usual}


def test_what_was_exported_passes(exported, few_digits) -> None:
    told: list[tuple[str, int, int]] = []
    rows = check(list(exported.values()), few_digits, progress=lambda *what: told.append(what))
    assert [gates(row) for row in rows] == [{"numerics": "pass", "accuracy": "pass"}] * 2
    assert [row.exit_code for row in rows] == [0, 0]
    assert [what for what, done, total in told if done == total == 60] == [
        "eager reference",
        "torchscript fp32",
        "onnx fp32",
    ]
    accuracy = rows[0].gates[1].numbers
    assert accuracy["images"] == 60
    assert accuracy["reference"] == accuracy["reached"]


def test_golden_images_alone_are_enough_for_numerics(exported) -> None:
    assert gates(check([exported["onnx"]])[0]) == {"numerics": "pass", "accuracy": "skipped"}


def other_preprocess(folder: Path) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["preprocess"]["mean"] = [0.9, 0.9, 0.9]
    reseal(folder, spec=spec)


def other_filter(folder: Path) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["preprocess"]["interpolation"] = "nearest"
    reseal(folder, spec=spec)


def other_golden(folder: Path) -> None:
    path = folder / "golden" / "logits.json"
    values = json.loads(path.read_text())
    values["1.png"][3] += 1.0
    path.write_text(json.dumps(values))
    reseal(folder)


def forge_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the reference's weights, and all that artifact.json says of them."""
    path = folder / "weights.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    reseal(folder)
    reseal(folder, weights_sha256=digest(rebuild(read_manifest(folder).origin, path)))


def other_weights(folder: Path) -> None:
    """5 % off in one layer of the reference: then the artifact no longer is what it was made from."""
    forge_weights(folder, lambda state: state["layer3.0.conv1.weight"].mul_(1.05))


def nan_weights(folder: Path) -> None:
    forge_weights(folder, lambda state: state["fc.bias"][:1].fill_(float("nan")))


@pytest.mark.parametrize("fault", [other_preprocess, other_filter, other_golden, other_weights, nan_weights])
@pytest.mark.parametrize("with_data", [True, False])
def test_planted_faults_fail(exported, few_digits, fault, with_data: bool) -> None:
    fault(exported["torchscript"])
    row = check([exported["torchscript"]], few_digits if with_data else None)[0]
    assert gates(row)["numerics"] == "fail"
    assert row.exit_code == GATE


def test_a_wrong_preprocess_cannot_hide_in_the_accuracy_either(exported, few_digits) -> None:
    other_preprocess(exported["onnx"])
    row = check([exported["onnx"]], few_digits)[0]
    assert gates(row)["accuracy"] == "fail"


def test_another_models_file_fails(exported, few_digits, tmp_path: Path) -> None:
    import torch
    from zoo.exporter.backends.eager.modules import in_precision

    other = in_precision(tiny_model().module, "fp32")
    traced = torch.jit.trace(other, torch.zeros(2, 3, 32, 32))
    torch.jit.save(torch.jit.freeze(traced.eval()), exported["torchscript"] / "model.pt")
    reseal(exported["torchscript"])
    assert gates(check([exported["torchscript"]], few_digits)[0]) == {"numerics": "fail", "accuracy": "fail"}


def test_one_that_cannot_be_checked_does_not_stop_the_others(exported, few_digits, tmp_path: Path) -> None:
    (exported["torchscript"] / "model.pt").write_bytes(b"x")
    rows = check([exported["torchscript"], tmp_path / "none", tmp_path / "trt-fp16", exported["onnx"]], few_digits)
    assert [row.exit_code for row in rows] == [INTEGRITY, USAGE, UNAVAILABLE, 0]
    assert "TensorRT is not installed" in str(rows[2].error)


def test_random_weights_have_no_accuracy(few_digits, tmp_path: Path) -> None:
    from dataclasses import replace

    from zoo.exporter.export import export

    model = replace(tiny_model(), meaningful=False, weights="random, seed 0")
    row = export(model, ["torchscript"], out=tmp_path)[0]
    assert gates(check([row.folder], few_digits)[0])["accuracy"] == "skipped"


def test_where_labels_do_not_belong_agreement_is_judged(exported, few_digits) -> None:
    letters = Dataset("letters", tuple("abcdefghij"), few_digits.train, few_digits.val, few_digits.preprocess, True)
    assert gates(check([exported["onnx"]], letters)[0]) == {"numerics": "pass", "accuracy": "pass"}


def test_no_images_is_a_failure(exported, few_digits) -> None:
    empty = Dataset(
        "few-digits",
        few_digits.classes,
        few_digits.train,
        few_digits.val.take(np.arange(0)),
        few_digits.preprocess,
        True,
    )
    assert gates(check([exported["onnx"]], empty)[0]) == {"numerics": "fail", "accuracy": "fail"}


def test_another_reference(exported, few_digits) -> None:
    row = check([exported["onnx"]], few_digits, reference=tiny_model().module)[0]
    expected = {"numerics": "fail", "accuracy": "inconclusive"}
    assert gates(row) == expected, "untrained, it loses no answer to the artifact, and has none right to lose"


def test_weights_are_those_that_the_artifact_names(exported) -> None:
    reseal(exported["onnx"], weights_sha256="0" * 64)
    row = check([exported["onnx"]])[0]
    assert row.exit_code == INTEGRITY
    assert "weights_sha256" in str(row.error)


def test_reversed_labels_do_not_pass(exported, few_digits) -> None:
    """Both sides agree on them; on some of the images alone no accuracy is known to hold them to."""
    for name, more in (("onnx", {}), ("torchscript", {"reached": None})):
        spec = json.loads((exported[name] / "artifact.json").read_text())["spec"]
        reseal(exported[name], spec={**spec, "labels": spec["labels"][::-1]}, **more)
        accuracy = check([exported[name]], few_digits, limit=40)[0].gate("accuracy")
        assert accuracy is not None
        assert accuracy.verdict != "pass", accuracy


def test_weights_of_a_run_are_not_random(exported) -> None:
    reseal(exported["onnx"], meaningful=False)
    row = check([exported["onnx"]])[0]
    assert row.exit_code == INTEGRITY
    assert "meaningful is false, which is of random weights" in str(row.error)


def test_colour_faults_on_colour_images(tmp_path: Path) -> None:
    """Channels swapped in artifact.json: found on made golden images, which have colours."""
    from zoo.exporter.export import export

    row = export(tiny_model(), ["torchscript"], out=tmp_path)[0]
    spec = json.loads((row.folder / "artifact.json").read_text())["spec"]
    spec["preprocess"]["channels"] = "BGR"
    reseal(row.folder, spec=spec)
    assert gates(check([row.folder])[0])["numerics"] == "fail"


def test_a_folder_cannot_name_code_to_run(
    exported, few_digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trap = {"source": "subprocess:getoutput", "arguments": {"cmd": f"touch {tmp_path}/executed"}}
    reseal(exported["onnx"], origin=trap)
    row = check([exported["onnx"]], few_digits)[0]
    assert row.exit_code == USAGE
    assert "does not define" in str(row.error)
    assert not (tmp_path / "executed").exists()


def test_a_bad_artifact_does_not_borrow_the_reference_of_a_good_one(exported, few_digits) -> None:
    nan_weights(exported["onnx"])
    rows = check([exported["torchscript"], exported["onnx"]], few_digits)
    assert [row.exit_code for row in rows] == [0, GATE]


@pytest.mark.parametrize(("name", "precision"), [("torchscript", "int8"), ("torchscript", "bf16"), ("onnx", "fp16")])
def test_a_graph_that_calls_itself_another_precision(exported, name: str, precision: str) -> None:
    """It would be judged by a wider tolerance."""
    reseal(exported[name], precision=precision)
    assert check([exported[name]])[0].exit_code in (GATE, INTEGRITY)


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"0.png": "x"}', '{"0.png": [1, 2]}', "[" * 100_000])
def test_broken_golden_logits_are_an_integrity_error(exported, content: str) -> None:
    (exported["onnx"] / "golden" / "logits.json").write_text(content)
    reseal(exported["onnx"])
    assert check([exported["onnx"]])[0].exit_code == INTEGRITY
