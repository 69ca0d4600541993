"""The runner: shapes, graphs, addresses, timing; every failing return of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from fake import FakeCuda
from zoo.errors import IntegrityError, UnavailableError, UsageError, ZooError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.tensorrt import cuda
from zoo.exporter.backends.tensorrt.builder import build
from zoo.exporter.backends.tensorrt.options import BuildOptions
from zoo.exporter.backends.tensorrt.runner import TensorRTRunner
from zoo.models.sources import Model

SIZES = Batch(2, 4, 8)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("mobilenet_v2")


@pytest.fixture(scope="module")
def proto(model: Model):
    return export_graph(model.module, model.spec, "fp32", SIZES)


def runner_of(machine, model: Model, proto, tmp_path: Path, **changes: object) -> TensorRTRunner:
    plan = tmp_path / "model.plan"
    plan.write_bytes(build(machine.trt, proto.SerializeToString(), SIZES, BuildOptions()).plan)
    values = {"layers": list_layers(proto)} | changes
    batch = values.pop("batch", SIZES)
    return TensorRTRunner("trt", model.spec, batch, plan, machine.trt, cuda.open_cuda, **values)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 3, 32, 32)).astype(np.float32)


def reference(model: Model, batch: np.ndarray) -> np.ndarray:
    from zoo.models.sources import logits_of

    return logits_of(model.module, batch)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17])
def test_any_number_of_images(any_machine, model, proto, tmp_path: Path, count: int) -> None:
    """The engine takes 2 to 8: fewer are filled up, more run in parts."""
    with runner_of(any_machine, model, proto, tmp_path) as runner:
        got = runner.run(images(count))
    expected = reference(model, images(count))
    assert got.shape == (count, 10)
    assert np.abs(got - expected).max() < 1e-4 * np.ptp(expected)


def test_addresses_are_bound_once_and_shapes_set_when_they_change(one_machine, model, proto, tmp_path: Path) -> None:
    with runner_of(one_machine, model, proto, tmp_path) as runner:
        one_machine.world.calls.clear()
        for count in (4, 4, 8, 8, 4):
            runner.run(images(count))
    assert one_machine.world.calls.count("IExecutionContext.set_tensor_address") == 0
    assert one_machine.world.calls.count("IExecutionContext.set_input_shape") == 3
    assert one_machine.world.calls.count("IExecutionContext.execute_async_v3") == 5


def test_a_graph_is_captured_for_a_shape_and_again_for_another(one_machine, model, proto, tmp_path: Path) -> None:
    with runner_of(one_machine, model, proto, tmp_path) as runner:
        device: FakeCuda = one_machine.cudas[-1]
        runner.prepare(images(4))
        for _ in range(3):
            runner.step()
        runner.prepare(images(4))
        assert [graph.launches for graph in device.graphs] == [3], "the same shape keeps its graph"
        runner.prepare(images(8))
        runner.step()
        assert [graph.launches for graph in device.graphs] == [3, 1]
        runner.run(images(4))
        runner.prepare(images(8))
        assert len(device.graphs) == 3, "another shape in between drops it"
        assert runner.notes == []


def test_without_a_graph_it_falls_back_and_says_so(one_machine, model, proto, tmp_path: Path) -> None:
    one_machine.world.fail["capture"] = ""
    with runner_of(one_machine, model, proto, tmp_path) as runner:
        runner.prepare(images(4))
        before = one_machine.world.calls.count("IExecutionContext.execute_async_v3")
        runner.step()
        assert one_machine.world.calls.count("IExecutionContext.execute_async_v3") == before + 1
        assert runner.notes == ["no CUDA graph could be captured for a batch of 4: runs are enqueued one by one"]
        assert not runner.time(images(4), runs=2, warm_up=1).graph


def test_timing_tells_device_enqueue_and_transfers_apart(one_machine, model, proto, tmp_path: Path) -> None:
    with runner_of(one_machine, model, proto, tmp_path) as runner:
        timed = runner.time(images(4), runs=5, warm_up=2)
        assert (len(timed.gpu), len(timed.enqueue), len(timed.total)) == (5, 5, 5)
        assert timed.graph
        assert timed.batch == 4
        assert min(timed.gpu + timed.enqueue + timed.total) >= 0
        assert one_machine.cudas[-1].graphs[0].launches == 2 + 5 + 5
        with pytest.raises(UsageError, match="at least 1 run"):
            runner.time(images(4), runs=0)
        with pytest.raises(UsageError, match="takes 2 to 8 images at once, got 9"):
            runner.time(images(9))


@pytest.mark.parametrize(
    ("point", "kind", "words"),
    [
        ("Runtime", UnavailableError, "no runtime could be made"),
        ("Runtime.deserialize_cuda_engine", IntegrityError, "cannot be loaded"),
        ("ICudaEngine.create_execution_context", UnavailableError, "no execution context"),
        ("IExecutionContext.set_tensor_address", UnavailableError, "address of images is refused"),
        ("IExecutionContext.set_input_shape", UsageError, r"shape \(4, 3, 32, 32\) is refused"),
        ("IExecutionContext.infer_shapes", IntegrityError, "unknown: "),
        ("IExecutionContext.execute_async_v3", UnavailableError, "batch of 4 could not be enqueued"),
        ("ICudaEngine.create_engine_inspector", UnavailableError, "no engine inspector"),
    ],
)
def test_every_failing_return_is_an_error(
    any_machine, model, proto, tmp_path: Path, point: str, kind: type[ZooError], words: str
) -> None:
    runner = runner_of(any_machine, model, proto, tmp_path)
    any_machine.world.fail[point] = "the reason"
    with pytest.raises(kind, match=words) as caught, runner:
        runner.run(images(4))
        runner.receipt()
    assert caught.value.fix
    any_machine.world.fail.clear()
    with runner_of(any_machine, model, proto, tmp_path) as again:  # nothing is left open
        assert again.run(images(2)).shape == (2, 10)


def test_an_engine_of_another_interface_is_refused(one_machine, model, proto, tmp_path: Path) -> None:
    with (
        pytest.raises(IntegrityError, match="its profile is"),
        runner_of(one_machine, model, proto, tmp_path, batch=Batch(1, 4, 8)),
    ):
        pass
    half = export_graph(model.module, model.spec, "fp16", SIZES)
    half.graph.input[0].type.tensor_type.elem_type = 10
    with pytest.raises(IntegrityError, match=r"is .*HALF, not .*FLOAT"), runner_of(one_machine, model, half, tmp_path):
        pass


def test_a_runner_can_be_opened_again(one_machine, model, proto, tmp_path: Path) -> None:
    runner = runner_of(one_machine, model, proto, tmp_path)
    for _ in range(2):
        with runner:
            assert runner.run(images(3)).shape == (3, 10)
        assert one_machine.cudas[-1].stream == 0, "its stream is freed"


def test_removed_engine_attributes_are_found_on_11(one_machine, model, proto, tmp_path: Path) -> None:
    """The mutation that a test must not survive: device_memory_size went with TensorRT 11."""
    one_machine.become("11.1")
    with runner_of(one_machine, model, proto, tmp_path) as runner, pytest.raises(AttributeError):
        getattr(runner._engine, "device_memory_size")  # noqa: B009
