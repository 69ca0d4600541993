"""2:4 and unstructured zeros: through recovery, into the run, the exported graphs and TensorRT's builder options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from zoo.calibration.pruning.sparsity import layers_2_4
from zoo.errors import GateError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.graph.sparse import sparse_layers, told_sparse, verified_sparse
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.export import export
from zoo.exporter.prune.options import PruneOptions
from zoo.exporter.prune.run import prune
from zoo.exporter.prune.summary import told_of
from zoo.exporter.quantize.options import Int8Options
from zoo.models.runs import newest_run, read_run
from zoo.models.sources import resolve
from zoo.models.training.recipe import load_recipe

SPARSE = PruneOptions(pattern="2:4", beside=False)
RECIPE = load_recipe("prune", ["batch_size=30", "precision=fp32", "shift=1"], epochs=1)


@pytest.fixture(scope="module")
def sparse(trained_folder: Path, few_digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sparse") / "run"
    found = prune(resolve(str(trained_folder)), few_digits, SPARSE, RECIPE, out, parent=str(trained_folder))
    assert "2:4 sparse in" in told_of(found, SPARSE)
    assert "only on NVIDIA GPUs" in told_of(found, SPARSE)
    assert found.pruned.groups == ()
    return out


def test_zeros_stay_through_the_recovery_and_are_in_the_record(sparse: Path, trained_folder: Path) -> None:
    run, module = read_run(sparse), resolve(str(sparse)).module
    named = [one["layer"] for one in run.pruned["zeros"] if not one["dense"]]
    assert list(layers_2_4(module)) == named
    assert len(named) > 5
    before = resolve(str(trained_folder)).module.state_dict()
    changed = [name for name in named if not torch.equal(before[f"{name}.weight"] * (module.get_parameter(
        f"{name}.weight") != 0), module.get_parameter(f"{name}.weight"))]  # fmt: skip
    assert changed == named, "the others were trained"
    assert newest_run(sparse.parent, run.origin.source) is None, "a pruned run is not what the name alone means"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_exported_graphs_hold_the_pattern(sparse: Path, few_digits, tmp_path: Path, precision) -> None:
    model = resolve(str(sparse))
    quick = Int8Options(images=60, never_slower=False)
    rows = export(
        model, ["onnx", "trt"], ExportOptions(precision, build_later=True), out=tmp_path, data=few_digits, int8=quick
    )
    assert [row.error for row in rows] == [None, None]
    wanted = layers_2_4(model.module)
    for row in rows:
        assert len(sparse_layers(onnx.load(row.folder / "model.onnx"))) == len(wanted)
        assert row.artifact is not None
        assert any(f"2:4 sparse: {len(wanted)} of" in note for note in row.artifact.manifest.notes)
    assert rows[1].artifact is not None
    assert rows[1].artifact.manifest.options["build"]["sparse_weights"] is True


def test_a_dense_model_tells_the_builder_nothing(trained_folder: Path, tmp_path: Path) -> None:
    options = ExportOptions(build_later=True, settings={"trt": {"sparse_weights": True}})
    (row,) = export(resolve(str(trained_folder)), "trt", options, out=tmp_path)
    assert row.artifact is not None
    assert "sparse_weights: no layer of the graph is 2:4 sparse" in row.artifact.manifest.notes
    (row,) = export(resolve(str(trained_folder)), "trt", ExportOptions(build_later=True), out=tmp_path)
    assert row.artifact is not None
    assert row.artifact.manifest.options["build"]["sparse_weights"] is False


def test_an_export_that_lost_a_zero_is_refused(sparse: Path) -> None:
    model = resolve(str(sparse))
    graph = export_graph(model.module, model.spec, "fp32", Batch(1, 8, 32))
    found = verified_sparse(model.module, graph, "it")
    assert told_sparse(graph, found)
    assert told_sparse(graph, ()) == ""
    node = next(one for one in graph.graph.node if one.name == found[0])
    weight = next(one for one in graph.graph.initializer if one.name == node.input[1])
    filled = numpy_helper.to_array(weight).copy()
    filled[0, :4] = 1
    weight.CopyFrom(numpy_helper.from_array(filled, weight.name))
    with pytest.raises(GateError, match=rf"{len(found)} layers of it are 2:4 sparse, .* only {len(found) - 1}"):
        verified_sparse(model.module, graph, "it")


def test_the_axis_of_a_matrix_product_is_its_inner_one() -> None:
    """Gemm with transB has outputs x inputs, without it inputs x outputs; MatMul too."""
    from onnx import TensorProto, helper

    weight = np.ones((16, 32), np.float32)
    weight[:, ::2] = 0  # along its second axis
    for op, attributes, held in (
        ("Gemm", {"transB": 1}, True), ("Gemm", {"transB": 0}, False), ("MatMul", {}, False),
    ):  # fmt: skip
        size = 32 if held else 16
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"], name="n", **attributes)], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None])],
            [numpy_helper.from_array(weight, "w")],
        )  # fmt: skip
        assert bool(sparse_layers(helper.make_model(graph))) == held, op


def test_unstructured_zeros_bring_no_speed_and_it_is_said(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    options = PruneOptions(pattern="unstructured", sparsity=0.7)
    found = prune(resolve(str(trained_folder)), few_digits, options, RECIPE, tmp_path / "run")
    assert found.ratios == (), "nothing to measure"
    assert 0.6 < found.zeros <= 0.7, "but for the layer that makes the logits"
    assert "makes no runtime faster by itself" in told_of(found, options)
    module = resolve(str(tmp_path / "run")).module
    assert sum(int((one.weight == 0).sum()) for one in module.modules() if isinstance(one, torch.nn.Conv2d)) > 0


def test_channels_first_and_then_the_pattern(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    options = PruneOptions(0.6, pattern="2:4", round_to=16, timed=False, beside=False)
    found = prune(resolve(str(trained_folder)), few_digits, options, RECIPE, tmp_path / "run")
    assert found.pruned.macs <= 0.6 * found.pruned.macs_before
    assert found.zeros > 0.3
    assert layers_2_4(resolve(str(tmp_path / "run")).module)


def test_training_on_keeps_the_zeros(sparse: Path, few_digits, tmp_path: Path) -> None:
    from zoo.exporter.train import Asked, set_up
    from zoo.models.training.loop import train

    made = set_up(
        Asked(str(sparse), str(sparse), "tiny", ("precision=fp32", "batch_size=30"), {"epochs": 1}), few_digits
    )
    assert any("came 2:4 sparse: these zeros stay" in note for note in made.model.notes)
    wanted = layers_2_4(made.model.module)
    train(made.model, few_digits, made.recipe, tmp_path / "on", recovery=made.recovery)
    assert layers_2_4(resolve(str(tmp_path / "on")).module) == wanted
