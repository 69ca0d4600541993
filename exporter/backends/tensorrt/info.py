"""trt, as data."""

from __future__ import annotations

from ....calibration.rules import Rules
from ..info import BackendInfo, Int8Rules, Serving, Tolerance

INFO = BackendInfo(
    name="trt",
    backend=".backends.tensorrt.backend:TensorRT",
    title="model.plan for NVIDIA TensorRT",
    model="model.plan",
    graph="model.onnx",
    runtime="TensorRT",
    module="tensorrt",
    wheels=("tensorrt",),
    extra="trt",
    packages={"tensorrt": "tensorrt", "onnx": "onnx"},
    export_modules=("onnxscript",),
    aliases=("tensorrt", "nvidia", "engine", "plan"),
    precisions=("fp32", "fp16", "bf16", "int8"),
    tolerances={
        "fp32": Tolerance(
            1e-3,
            0.9999,
            "TensorRT chooses kernels by their speed, Winograd's among them; TF32 is off unless asked for",
        )
    },
    builds=True,
    lint="trt",
    int8=Int8Rules(
        rules=Rules(symmetric=True, written=False, half_scales=True, integer_bias=False),
        device="cuda",
        fastest_float="fp16",
    ),
    serving=Serving(triton="tensorrt_plan", gpu_only=True),
)
