"""One fault at a time, planted in real artifacts of colour images: each fails the gate that should.

scikit-learn's two photographs, cut into crops, are the colour images: digits and Fashion-MNIST are grey.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import TINY, reseal
from onnx import helper, numpy_helper
from PIL import Image
from zoo.errors import GATE
from zoo.exporter.checks.run import Checked, check
from zoo.models.data.dataset import Dataset

CROP, EACH = 44, 60


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Crops of both, as a folder of class folders."""
    from sklearn.datasets import load_sample_images
    from zoo.models.data.catalog import open_data

    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for split, count in (("train", EACH), ("val", EACH // 2)):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                top, left = (int(draw.integers(0, size - CROP)) for size in pixels.shape[:2])
                crop = np.ascontiguousarray(pixels[top : top + CROP, left : left + CROP])
                Image.fromarray(crop).save(root / split / name / f"{index}.png")
    return open_data(str(root))


@pytest.fixture(scope="module")
def made(photographs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An onnx artifact of a small network that learnt to tell them apart."""
    from zoo.exporter.export import export
    from zoo.models.fresh import new_model
    from zoo.models.sources import SourceOptions, resolve
    from zoo.models.spec import ModelSpec, Preprocess
    from zoo.models.training.loop import train
    from zoo.models.training.recipe import load_recipe

    place = tmp_path_factory.mktemp("made")
    preprocess = Preprocess(crop=(32, 32), resize=32, mean=(0.48, 0.45, 0.40), std=(0.2, 0.22, 0.25))
    spec = ModelSpec("tiny", (3, 32, 32), preprocess, photographs.classes)
    model = new_model("resnet18", spec, SourceOptions(arguments=TINY))
    train(model, photographs, load_recipe("tiny", epochs=4, batch_size=20, lr=0.05, shift=0), place / "run")
    row = export(resolve(str(place / "run")), ["onnx"], out=place, data=photographs)[0]
    assert row.error is None
    return row.folder


@pytest.fixture(scope="module")
def made_int8(photographs: Dataset, made: Path) -> Path:
    """The same network in int8."""
    from zoo.exporter.backends.options import ExportOptions
    from zoo.exporter.export import export
    from zoo.exporter.quantize.options import Int8Options
    from zoo.models.sources import resolve

    source, options = resolve(str(made.parent.parent / "run")), Int8Options(64, never_slower=False)
    row = export(source, ["onnx"], ExportOptions("int8"), out=made.parent.parent, data=photographs, int8=options)[0]
    assert row.error is None, row.error
    return row.folder


def edit(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(folder / "model.onnx")
    change(graph)
    onnx.save(graph, folder / "model.onnx")
    reseal(folder)


def preprocess(folder: Path, **changes: object) -> None:
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["preprocess"] |= changes
    reseal(folder, spec=spec)


def weights_of(graph: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(one for one in graph.graph.initializer if one.name == name)


def scaled(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    def change(graph: onnx.ModelProto) -> None:
        weight = weights_of(graph, name)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), name))

    return change


def swapped_in_graph(graph: onnx.ModelProto) -> None:
    weight = weights_of(graph, "conv1.weight")
    turned = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))


def frozen_to_one(graph: onnx.ModelProto) -> None:
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = 1


def leaking(graph: onnx.ModelProto) -> None:
    """Adds a little of the batch's mean to each image, as a batch norm left in training would."""
    first = graph.graph.node[0]
    first.input[0] = "leaked"
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0]), "batch_axis"))
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "a_little"))
    for node in reversed(
        [
            helper.make_node("ReduceMean", ["images", "batch_axis"], ["mean_image"], "mean_image", keepdims=1),
            helper.make_node("Mul", ["mean_image", "a_little"], ["part"], "part"),
            helper.make_node("Add", ["images", "part"], ["leaked"], "leaked"),
        ]
    ):
        graph.graph.node.insert(0, node)


def shifted_where(operator: str, size: int, shift: float) -> Callable[[onnx.ModelProto], None]:
    """Adds to all logits for some batch sizes, as a kernel that is chosen by the size and wrong would."""

    def change(graph: onnx.ModelProto) -> None:
        output = graph.graph.output[0].name
        last = next(node for node in graph.graph.node if output in node.output)
        last.output[list(last.output).index(output)] = "right"
        for name, value in (("which", np.array(0)), ("size", np.array(size)), ("shift", np.float32(shift))):
            graph.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"planted_{name}"))
        graph.graph.node.extend(
            [
                helper.make_node("Shape", ["images"], ["planted_shape"], "planted_shape"),
                helper.make_node("Gather", ["planted_shape", "planted_which"], ["planted_batch"], "planted_batch"),
                helper.make_node(operator, ["planted_batch", "planted_size"], ["planted_hit"], "planted_hit"),
                helper.make_node(
                    "Cast", ["planted_hit"], ["planted_float"], "planted_float", to=onnx.TensorProto.FLOAT
                ),
                helper.make_node("Mul", ["planted_float", "planted_shift"], ["planted_more"], "planted_more"),
                helper.make_node("Add", ["right", "planted_more"], [output], "planted_output"),
            ]
        )

    return change


FAULTS = {
    "swapped channels": (lambda folder: preprocess(folder, channels="BGR"), "numerics"),
    "missing normalisation": (lambda folder: preprocess(folder, mean=[0.0] * 3, std=[1.0] * 3), "numerics"),
    "a wrong resize filter": (lambda folder: preprocess(folder, interpolation="nearest"), "numerics"),
    "channels swapped in the graph": (lambda folder: edit(folder, swapped_in_graph), "numerics"),
    "a layer 5 % off": (lambda folder: edit(folder, scaled("layer3.0.conv1.weight", 1.05)), "numerics"),
    "the batch frozen to 1": (lambda folder: edit(folder, frozen_to_one), "consistency"),
    "rows leaking into each other": (lambda folder: edit(folder, leaking), "consistency"),
    "5 more in batches of more than 100": (
        lambda folder: edit(folder, shifted_where("Greater", 100, 5.0)),
        "consistency",
    ),
    "5 more in batches of two": (lambda folder: edit(folder, shifted_where("Equal", 2, 5.0)), "consistency"),
    "fp32 that calls itself fp16": (lambda folder: reseal(folder, precision="fp16"), "precision"),
}


def checked(made: Path, tmp_path: Path, data: Dataset, fault: Callable[[Path], None] | None = None) -> Checked:
    folder = Path(shutil.copytree(made, tmp_path / "onnx-fp32"))
    if fault is not None:
        fault(folder)
    row = check(folder, data)[0]
    assert row.error is None, row.error
    return row


def test_without_a_fault_all_gates_pass(made: Path, tmp_path: Path, photographs: Dataset) -> None:
    row = checked(made, tmp_path, photographs)
    assert {gate.name: gate.verdict for gate in row.gates} == dict.fromkeys(
        ("numerics", "accuracy", "consistency", "preprocessing", "labels", "precision"), "pass"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_gate_that_should(made: Path, tmp_path: Path, photographs: Dataset, fault: str) -> None:
    plant, name = FAULTS[fault]
    row = checked(made, tmp_path, photographs, plant)
    gate = row.gate(name)
    assert gate is not None
    assert gate.verdict == "fail", gate
    assert row.exit_code == GATE


@pytest.mark.parametrize(
    ("fault", "layer"),
    [("a layer 5 % off", "layer3.0.conv1.weight"), ("channels swapped in the graph", "conv1.weight")],
)
def test_bisect_names_the_layer(made: Path, tmp_path: Path, photographs: Dataset, fault: str, layer: str) -> None:
    gate = checked(made, tmp_path, photographs, FAULTS[fault][0]).gate("numerics")
    assert gate is not None
    assert gate.numbers["bisect"]["weight"] == layer
    assert layer in gate.reason


@pytest.mark.parametrize("fault", ["swapped channels", "missing normalisation", "a wrong resize filter"])
def test_preprocessing_is_told_from_the_graph(made: Path, tmp_path: Path, photographs: Dataset, fault: str) -> None:
    gate = checked(made, tmp_path, photographs, FAULTS[fault][0]).gate("numerics")
    assert gate is not None
    assert "look at the preprocessing" in gate.reason
    assert "bisect" not in gate.numbers


def test_a_frozen_batch_is_still_judged_one_by_one(made: Path, tmp_path: Path, photographs: Dataset) -> None:
    row = checked(made, tmp_path, photographs, FAULTS["the batch frozen to 1"][0])
    assert {gate.name: gate.verdict for gate in row.gates if gate.name != "consistency"} == dict.fromkeys(
        ("numerics", "accuracy", "preprocessing", "labels", "precision"), "pass"
    )


def test_a_small_shift_of_int8_for_several_images_is_found(
    made_int8: Path, tmp_path: Path, photographs: Dataset
) -> None:
    """Less than fp16's tolerance of a single logit, and on all of them: no rounding does that."""

    def verdict() -> str:
        gate = checked(made_int8, tmp_path, photographs, fault).gate("consistency")
        assert gate is not None
        shutil.rmtree(tmp_path / "onnx-fp32")
        return gate.verdict

    fault = None
    assert verdict() == "pass"
    fault = lambda folder: edit(folder, shifted_where("Greater", 1, 0.05))  # noqa: E731
    assert verdict() == "fail"
