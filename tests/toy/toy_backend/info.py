"""toy, as data: all that the rest of zoo knows of it. Nothing heavy is imported here."""

from __future__ import annotations

from zoo.calibration.rules import Rules
from zoo.exporter.backends.info import BackendInfo, Int8Rules

INFO = BackendInfo(
    name="toy",
    backend="toy_backend.backend:Toy",
    title="model.toy, run in numpy",
    model="model.toy",
    runtime="numpy",
    module="numpy",
    wheels=("numpy",),
    packages={"numpy": "numpy"},
    precisions=("fp32", "int8"),
    int8=Int8Rules(rules=Rules()),
    predictor="toy_backend.run:open_toy",
)
