"""onnx, as data."""

from __future__ import annotations

from ....calibration.rules import Rules
from ..info import BackendInfo, Int8Rules, Serving

INFO = BackendInfo(
    name="onnx",
    backend=".backends.onnx.backend:Onnx",
    title="model.onnx for ONNX Runtime and other runtimes",
    model="model.onnx",
    graph="model.onnx",
    runtime="ONNX Runtime",
    module="onnxruntime",
    wheels=("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    packages={"onnxruntime": "onnxruntime-gpu", "onnx": "onnx"},
    export_modules=("onnxscript",),
    aliases=("onnxruntime", "ort"),
    precisions=("fp32", "fp16", "bf16", "int8"),
    emulates={"fp16": "fp32", "bf16": "fp32"},  # its CPU provider has float kernels in float32 alone
    int8=Int8Rules(rules=Rules(), pairs_saturate=True, reads_blocks=True),
    layer_timer=".timing.layer_models:open_onnx_layer",
    layer_times=".backends.onnx.layer_times:by_layer",
    serving=Serving(triton="onnxruntime_onnx", mlflow=True),
    predictor=".runtime.predictor:open_onnx",
)
