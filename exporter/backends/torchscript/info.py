"""torchscript, as data."""

from __future__ import annotations

from ....calibration.rules import FIXED, Rules
from ..info import BackendInfo, Int8Rules, Serving

INFO = BackendInfo(
    name="torchscript",
    backend=".backends.torchscript.backend:TorchScript",
    title="model.pt for torch.jit.load, in Python or C++",
    model="model.pt",
    runtime="TorchScript",
    module="torch",
    wheels=("torch",),
    packages={"torch": "torch"},
    aliases=("jit", "libtorch", "pt"),
    precisions=("fp32", "fp16", "bf16", "int8"),
    is_program=True,
    int8=Int8Rules(
        rules=Rules(
            more=(
                *("hardswish", "mul", "layer_norm", "group_norm", "instance_norm", "batch_norm", "elu", "leaky_relu"),
                *FIXED,
            ),
            reads_floats=True,
            depthwise_bits=7,
            fixed=FIXED,
            integer_bias=False,
            any_mean=True,
            averages_keep_scale=True,
            joined_share_scale=True,
            logits=True,
        ),
        pairs_saturate=True,
        engine="onednn",
    ),
    shares_threads=True,
    layer_timer=".timing.layer_models:open_torch_layer",
    serving=Serving(triton="pytorch_libtorch", tensors=("INPUT__0", "OUTPUT__0")),  # by place: it names none
    predictor=".runtime.predictor:open_torchscript",
)
