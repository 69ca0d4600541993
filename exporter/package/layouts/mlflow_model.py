"""A package as MLflow calls it: image files as bytes in, labels and probabilities out.

This file alone lies in the model's code folder, so that neither zoo nor torch is needed where it is served; what it
runs is the package's own runtime, under a name of its own, beside whatever zoo is installed there. Nothing is pickled:
MLflow calls `_load_pyfunc` with the path of the data.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import sys
import types
from pathlib import Path
from typing import Any

IMAGE = "image"


class PackagedModel:
    """One row an image: its file's bytes, or their base64, in the column `image`."""

    def __init__(self, path: Path) -> None:
        container = _runtime(path, "container")
        self._package = container.Package(path)
        self._predictor = _runtime(path, "predictor").Predictor(self._package, allow_code=True)

    def predict(self, model_input: Any, params: Any = None) -> Any:
        """A data frame with `label`, `probability`, and `probabilities` of all classes in the order of labels.txt."""
        del params
        import pandas as pd
        from PIL import Image

        images = []
        for content in model_input[IMAGE]:
            data = base64.b64decode(content, validate=True) if isinstance(content, str) else bytes(content)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
            images.append(image)
        answers = self._predictor.answers(images, len(self._predictor.spec.labels))
        return pd.DataFrame(
            {
                "label": [top[0]["label"] for top in answers],
                "probability": [top[0]["probability"] for top in answers],
                "probabilities": [
                    [one["probability"] for one in sorted(top, key=lambda one: one["index"])] for top in answers
                ],
            }
        )


def _runtime(path: Path, name: str) -> Any:
    """A module of the package's own runtime; its imports are relative, so that the name it has here does not matter."""
    alias = f"zoo_packaged_{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}"
    if alias not in sys.modules:
        module = types.ModuleType(alias)
        module.__path__ = [f"{path.absolute()}/zoo"]
        sys.modules[alias] = module
    return importlib.import_module(f"{alias}.exporter.runtime.{name}")


def _load_pyfunc(data_path: str) -> PackagedModel:
    """MLflow's entry."""
    return PackagedModel(Path(data_path))
