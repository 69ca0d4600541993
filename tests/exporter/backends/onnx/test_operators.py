"""The one parser of ONNX Runtime's profile."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from conftest import tiny_model
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import INPUT, export_graph
from zoo.exporter.backends.onnx.operators import parse_profile, profiled, warm_of, whole_runs


def test_kernels_leave_out_warm_up_and_outliers() -> None:
    runs = [1000, 1000, 1000, 10, 11, 12, 13, 9000, 1, 12, 11]
    args = {"op_name": "Conv", "provider": "CPUExecutionProvider"}
    events = [{"cat": "Node", "name": "conv_kernel_time", "dur": one, "args": args} for one in runs]
    events += [{"cat": "Node", "name": "conv_fence_before", "dur": 5}, {"cat": "Session", "name": "x", "dur": 5}]
    (kernel,) = parse_profile(events).values()
    assert kernel.usual(3) == pytest.approx(11.5)
    assert (kernel.name, kernel.kind, kernel.provider) == ("conv", "Conv", "CPUExecutionProvider")
    assert kernel.usual(100) > 1000, "fewer runs than the warm-up: all of them"


def test_a_real_profile_adds_up_to_what_a_profiled_run_takes() -> None:
    model = tiny_model("resnet18")
    content = export_graph(model.module, model.spec, "fp32", Batch(1, 4, 8)).SerializeToString()
    images = np.zeros((1, *model.spec.input), np.float32)

    def make(options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    events = profiled(make, lambda session: session.run(None, {INPUT: images}), warm_of(10) + 10)
    kernels = parse_profile(events)
    assert sum("Conv" in one.kind for one in kernels.values()) == 20
    assert all(len(one.microseconds) == 15 for one in kernels.values())
    whole = whole_runs(events)
    assert len(whole) == 15
    assert sum(sum(one.microseconds) for one in kernels.values()) <= sum(whole)
