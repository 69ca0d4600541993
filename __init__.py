"""zoo: train image classifiers, make them smaller, export them, and prove what was exported.

    import zoo

    model = zoo.resolve("runs/resnet18-digits")
    data = zoo.open_data("digits")
    exported = zoo.export(model, ["torchscript", "onnx"], data=data)
    small = zoo.export(model, "onnx", zoo.ExportOptions("int8"), data=data, int8=zoo.Int8Options(images=256))
    checked = zoo.check([row.folder for row in (*exported, *small)], data)
    with zoo.load("exports/resnet18/onnx-fp32") as runner:
        logits = runner.run(batch)

Everything is imported on first use: `import zoo` costs nothing and needs neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ZooError
    from .exporter.backends.options import ExportOptions
    from .exporter.checks.budget import read_budget
    from .exporter.checks.measure_latency import LatencyOptions
    from .exporter.checks.run import check
    from .exporter.evaluate import evaluate
    from .exporter.export import export
    from .exporter.load import load, open_any
    from .exporter.quantize.calibrate import calibrate
    from .exporter.quantize.options import Int8Options
    from .exporter.quantize.sensitivity import sensitivity
    from .exporter.train import train
    from .models.data.catalog import open_data
    from .models.registry import create_model
    from .models.sources import SourceOptions, resolve
    from .models.spec import ModelSpec, Preprocess

_WHERE = {
    "ExportOptions": ".exporter.backends.options",
    "Int8Options": ".exporter.quantize.options",
    "LatencyOptions": ".exporter.checks.measure_latency",
    "ModelSpec": ".models.spec",
    "Preprocess": ".models.spec",
    "SourceOptions": ".models.sources",
    "ZooError": ".errors",
    "calibrate": ".exporter.quantize.calibrate",
    "check": ".exporter.checks.run",
    "create_model": ".models.registry",
    "evaluate": ".exporter.evaluate",
    "export": ".exporter.export",
    "load": ".exporter.load",
    "open_any": ".exporter.load",
    "open_data": ".models.data.catalog",
    "read_budget": ".exporter.checks.budget",
    "resolve": ".models.sources",
    "sensitivity": ".exporter.quantize.sensitivity",
    "train": ".exporter.train",
}

__all__ = [
    "ExportOptions",
    "Int8Options",
    "LatencyOptions",
    "ModelSpec",
    "Preprocess",
    "SourceOptions",
    "ZooError",
    "calibrate",
    "check",
    "create_model",
    "evaluate",
    "export",
    "load",
    "open_any",
    "open_data",
    "read_budget",
    "resolve",
    "sensitivity",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zoo-export")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name], __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
