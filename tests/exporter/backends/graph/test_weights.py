"""Norms behind a layer that is called twice are folded, each call with weights of its own."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.models.preprocess import Preprocess
from zoo.models.spec import ModelSpec


class Twice(nn.Module):
    """One layer before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norms = nn.Conv2d(3, 4, 3, padding=1), nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        for index, norm in enumerate(self.norms):
            assert isinstance(norm.running_var, Tensor)
            norm.running_var.fill_(0.1 + index)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (norm(self.layer(view)) for norm, view in zip(self.norms, (x, x.flip(3)), strict=True))
        return (first + second.relu()).mean((2, 3))


def test_no_norm_is_left_and_the_answers_are_the_same() -> None:
    torch.manual_seed(0)
    module = Twice().eval()
    spec = ModelSpec("twice", (3, 8, 8), Preprocess(crop=(8, 8), resize=8), tuple("abcd"))
    proto, _ = trace_graph(module, spec, "fp32", Batch(1, 4, 8))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("Conv") == 2
    assert "BatchNormalization" not in kinds
    images = torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        wanted = module(images).numpy()
    (got,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
