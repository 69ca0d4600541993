"""Mistakes in preprocessing that golden images of grey digits do not show: probes do, and name them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from conftest import reseal, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image
from zoo.errors import GATE, INTEGRITY
from zoo.exporter.artifact.folder import Golden
from zoo.exporter.artifact.golden import make_probes
from zoo.exporter.artifact.probes import made_probes
from zoo.exporter.checks.gate import Gate
from zoo.exporter.checks.mistakes import mistakes
from zoo.exporter.checks.preprocessing import judge_preprocessing, opposite
from zoo.exporter.checks.run import check, check_probes
from zoo.models.preprocess import prepare
from zoo.models.sources import Model, logits_of
from zoo.models.spec import Preprocess


def preprocess(folder: Path, **changes: object) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["preprocess"] |= changes
    reseal(folder, spec=spec)


def swapped_in_the_graph(folder: Path) -> None:
    graph = onnx.load(folder / "model.onnx")
    weight = next(one for one in graph.graph.initializer if numpy_helper.to_array(one).shape[1:2] == (3,))
    turned = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    onnx.save(graph, folder / "model.onnx")
    reseal(folder)


def exchanged(folder: Path) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]["preprocess"]
    preprocess(folder, mean=spec["std"], std=spec["mean"])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "channels": (lambda folder: preprocess(folder, channels="BGR"), "red and blue exchanged, BGR in place of RGB"),
    "channels in the graph": (swapped_in_the_graph, "red and blue exchanged"),
    "filter": (lambda folder: preprocess(folder, interpolation="nearest"), "by nearest in place of bilinear"),
    "mean and std": (exchanged, "mean and std exchanged"),
}


def gate_of(folder: Path) -> Gate:
    row = check([folder])[0]
    assert row.error is None, row.error
    gate = row.gate("preprocessing")
    assert gate is not None
    return gate


def test_a_right_export_of_grey_digits_passes_with_every_mistake_ruled_out(exported) -> None:
    for folder in exported.values():
        gate = gate_of(folder)
        assert gate.verdict == "pass", gate
        assert "untested" not in gate.reason
        assert all(one["ruled_out"] for one in gate.numbers["mistakes"])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(exported, fault: str) -> None:
    plant, named = FAULTS[fault]
    plant(exported["onnx"])
    row = check([exported["onnx"]])[0]
    gate = row.gate("preprocessing")
    assert gate is not None
    assert gate.verdict == "fail", gate
    assert named in gate.reason
    assert row.exit_code == GATE


def test_swapped_channels_pass_every_other_gate_on_grey_digits(exported, few_digits) -> None:
    """What the probes are for."""
    preprocess(exported["onnx"], channels="BGR")
    verdicts = {gate.name: gate.verdict for gate in check([exported["onnx"]], few_digits)[0].gates}
    assert verdicts.pop("preprocessing") == "fail"
    assert "fail" not in verdicts.values()


def test_an_artifact_of_before_there_were_probes(exported) -> None:
    folder = exported["onnx"]
    shutil.rmtree(folder / "golden" / "probes")
    (folder / "golden" / "probes.json").unlink()
    manifest = json.loads((folder / "artifact.json").read_text())
    manifest["files"] = {name: one for name, one in manifest["files"].items() if "probes" not in name}
    (folder / "artifact.json").write_text(json.dumps(manifest))
    gate = gate_of(folder)
    assert (gate.verdict, gate.exit_code) == ("skipped", 0)
    assert "before probes were kept" in gate.reason


@pytest.mark.parametrize("content", ["{", "{}", '{"probes/0.png": [1]}', '{"../0.png": [1, 2]}', "[1]"])
def test_broken_probes_are_an_integrity_error(exported, content: str) -> None:
    (exported["onnx"] / "golden" / "probes.json").write_text(content)
    reseal(exported["onnx"])
    assert check([exported["onnx"]])[0].exit_code == INTEGRITY


def through(model: Model, named: str) -> Model:
    """The model as a source that does it with a mistake, which artifact.json does not say."""
    return dataclasses.replace(
        model, transform=lambda image: np.asarray(mistakes([image], model.spec.preprocess)[named], np.float32)
    )


@pytest.mark.parametrize("named", ["resized without antialiasing", "crop shifted by a pixel"])
def test_a_source_that_does_otherwise_than_artifact_json_says(named: str) -> None:
    model = tiny_model(size=48)
    manifest = SimpleNamespace(spec=model.spec, pixels=False, precision="fp32")
    run = lambda batch: logits_of(model.module, batch)  # noqa: E731
    assert check_probes(make_probes(model), run, manifest).verdict == "pass"
    gate = check_probes(make_probes(through(model, named)), run, manifest)
    assert gate.verdict == "fail"
    assert f"with {named}: it answers as with" in gate.reason


def test_a_source_that_cannot_answer_them_has_none() -> None:
    def picky(image: Image.Image) -> np.ndarray:
        raise ValueError("only pictures of 32 x 32")

    assert make_probes(dataclasses.replace(tiny_model(), transform=picky)) is None


@pytest.mark.parametrize(
    "given_one",
    [
        Preprocess(crop=(32, 32), resize=36),
        Preprocess(crop=(24, 40), resize=(30, 44), channels="BGR"),
        Preprocess(crop=(28, 28), mean=(0.1,), std=(0.3,), channels="L"),
        Preprocess(crop=(224, 224), resize=256, interpolation="bicubic"),
    ],
)
def test_each_mistake_changes_each_probe(given_one: Preprocess) -> None:
    images = made_probes(given_one)
    right = prepare(images, given_one)
    assert all(image.size != given_one.crop[::-1] and image.width != image.height for image in images)
    for name, made in mistakes(images, given_one).items():
        if given_one.resize is None and "not cropped" not in name and np.array_equal(made, right):
            continue
        moved = np.abs(made - right).reshape(len(images), -1).max(1)
        assert (moved > 0.01).all(), name
    again = made_probes(given_one)
    assert [image.tobytes() for image in images] == [image.tobytes() for image in again]


TRUTH = np.random.default_rng(0).normal(size=(6, 10))


def noisy(size: float, seed: int) -> np.ndarray:
    return TRUTH + size * np.random.default_rng(seed).normal(size=TRUTH.shape)


@given(st.floats(0.01, 1.5), st.integers(0, 2**20))
def test_rounding_alone_never_fails(rounding: float, seed: int) -> None:
    """As int8 does to probes, which are unlike the data: whatever the mistakes do, right answers are no failure."""
    others = {f"mistake {index}": noisy(rounding, seed + 1 + index) for index in range(10)}
    assert judge_preprocessing(TRUTH, noisy(rounding, seed), others, "int8").verdict != "fail"


def test_what_rounding_hides_is_untested() -> None:
    own = noisy(0.3, 1)
    gate = judge_preprocessing(TRUTH, own, {"small": noisy(0.3, 2), "large": noisy(3.0, 3)}, "int8")
    assert gate.verdict == "pass"
    assert gate.reason.endswith("untested in int8: small")
    gate = judge_preprocessing(TRUTH, own, {"small": noisy(0.3, 2)}, "int8")
    assert gate.verdict == "skipped"
    assert judge_preprocessing(TRUTH, own * np.nan, {"small": own}, "int8").verdict == "skipped"


def test_the_mistake_that_explains_most_is_named() -> None:
    others = {"BGR in place of RGB": noisy(0.1, 2), "resized by bicubic in place of nearest": noisy(0.01, 3)}
    gate = judge_preprocessing(TRUTH, noisy(1.0, 1), others, "int8")
    assert gate.verdict == "fail"
    assert gate.reason.endswith("it answers as with resized by nearest in place of bicubic")
    assert opposite("BGR in place of RGB") == "red and blue exchanged, RGB in place of BGR"


def test_probes_travel_with_golden_answers(golden: Golden) -> None:
    assert golden.probes is not None
    assert golden.probes.truth.shape == (len(golden.probes.images), golden.logits.shape[1])
