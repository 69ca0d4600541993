"""`--layout mlflow`: a model that `mlflow.pyfunc.load_model` loads and `mlflow models serve` serves."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from ....errors import UnavailableError, UsageError
from ...backends.infos import backend_infos
from ...runtime.container import Package
from ..pack import pack
from .mlflow_model import IMAGE

REQUIREMENTS = ["onnxruntime", "numpy", "pillow", "pandas"]


def write_model(folders: Sequence[str | Path], out: Path) -> str:
    """Write an MLflow model of artifacts; the name of the package in it.

    Its input is a column of image files' bytes, its example a golden image, its signature both sides.

    Args:
        folders: artifacts of one model; one of them must run without torch.
        out: a folder that is not there, or is empty.

    Raises:
        UsageError: something in the way, or artifacts that ONNX Runtime does not run.
        UnavailableError: MLflow or pandas is missing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is in the way", fix="give another --out")
    # it counts calls for its makers unless told not to, and asks for a folder of its own
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own classes
            import mlflow.pyfunc
            import pandas as pd
            from mlflow.models.signature import ModelSignature
            from mlflow.types.schema import Array, ColSpec, DataType, Schema
    except ImportError as error:
        raise UnavailableError(
            f"an MLflow layout needs MLflow, and {error.name} is not here", fix='pip install "zoo-export[mlflow]"'
        ) from error
    with tempfile.TemporaryDirectory() as here:
        made = pack(folders, Path(here) / "package.zoo").path
        with Package(made) as package:
            backends = {one["backend"] for one in package.manifest["artifacts"]}
            name = str(package.manifest["name"])
            example = pd.DataFrame({IMAGE: [package.read("golden/0.png")]})
        served = [info.name for info in backend_infos() if info.serving is not None and info.serving.mlflow]
        if not backends.intersection(served):
            raise UsageError(
                f"MLflow would serve {', '.join(sorted(backends))}", fix=f"give an artifact of {' or '.join(served)}"
            )
        place = made.rename(made.with_name(f"{name}.zoo"))
        signature = ModelSignature(
            inputs=Schema([ColSpec(DataType.binary, IMAGE)]),
            outputs=Schema(
                [ColSpec(DataType.string, "label"), ColSpec(DataType.double, "probability"),
                 ColSpec(Array(DataType.double), "probabilities")]
            ),
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        out.rmdir()  # MLflow makes it
        code = str(Path(__file__).with_name("mlflow_model.py"))
        mlflow.pyfunc.save_model(
            out, loader_module="mlflow_model", data_path=str(place), code_paths=[code],
            pip_requirements=REQUIREMENTS, signature=signature, input_example=example,
        )  # fmt: skip
    return place.name
