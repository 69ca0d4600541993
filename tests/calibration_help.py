"""Tiny models, calibrated: for several tests of calibration/."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from conftest import tiny_model
from torch import nn
from zoo.calibration.adaround import Rounder
from zoo.calibration.choice import Calibrated
from zoo.calibration.ranges import collect
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import trace_graph
from zoo.exporter.backends.onnx import int8 as target
from zoo.models.preprocess import Preprocess
from zoo.models.sources import Model
from zoo.models.spec import ModelSpec


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32)


@lru_cache(maxsize=8)
def calibrated_model(name: str) -> tuple[Model, Calibrated]:
    model = tiny_model(name)
    graph, program = trace_graph(model.module, model.spec, "fp32", Batch(1, 8, 64))
    batches = images(64).reshape(4, 16, 3, 32, 32)
    table = collect(program, target.edges(target.prepare(graph)), batches)
    rounder = Rounder(graph, program, lambda: iter(batches))
    return model, Calibrated(model.module, graph, program, table, images(4), rounder)


def calibrated(module: nn.Module) -> Calibrated:
    """A module of ten classes of 32 x 32 images, with ranges of noise."""
    spec = ModelSpec("m", (3, 32, 32), Preprocess(crop=(32, 32), resize=32), tuple("abcdefghij"))
    graph, program = trace_graph(module, spec, "fp32", Batch(1, 8, 64))
    batches = images(32).reshape(2, 16, 3, 32, 32)
    table = collect(program, target.edges(target.prepare(graph)), batches)
    return Calibrated(module, graph, program, table, images(4), Rounder(graph, program, lambda: iter(batches)))
