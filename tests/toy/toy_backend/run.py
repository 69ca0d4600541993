"""Opens and runs a file of the toy backend: an ONNX graph behind four letters, computed by onnx's own numpy code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"TOY1"
Logits = npt.NDArray[np.float32]


def pack(graph: bytes) -> bytes:
    """A graph as a file."""
    return MAGIC + graph


def graph_of(content: bytes) -> bytes:
    """The graph in a file. Raises ValueError for another file."""
    if not content.startswith(MAGIC):
        raise ValueError("it does not begin with TOY1")
    return content.removeprefix(MAGIC)


def evaluator(content: bytes) -> Callable[[npt.NDArray[Any]], Logits]:
    """What runs a batch, N x C x H x W, to logits."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load_from_string(graph_of(content)))
    return lambda batch: np.asarray(session.run(None, {"images": batch})[0], np.float32)


def open_toy(content: bytes, artifact: Mapping[str, Any], threads: int | None) -> Callable[[npt.NDArray[Any]], Logits]:
    """How a package opens it; see `zoo.exporter.runtime.predictor.open_onnx`."""
    del artifact, threads
    return evaluator(content)
