"""The receipt, from the engine inspector's JSON: what each layer of the plan really runs at.

The JSON differs between versions: in 10.x a tensor has "Format/Datatype", in words ("Channel major FP16 format ...")
or as a type ("Half"); in 11.x it has "Format" and "Datatype". With a dynamic batch some say "N/A due to dynamic
shapes", then the type of the weights speaks. The ONNX nodes that a layer was made of are in its "Metadata".
Source: TensorRT documentation, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....errors import IntegrityError
from ...artifact.manifest import Layer, Receipt

BITS = {"int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
# In this order: "BFloat16" holds "float", "INT8" would be found in "UINT8".
_TYPES = (
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half|float16"),
    ("fp8", r"fp8|float8"),
    ("int8", r"(?<!u)int8"),
    ("fp32", r"fp32|float32|\bfloat\b"),
)
_REFORMATS = ("Reformat", "NoOp", "reformat")


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine, as far as the inspector tells.

    Attributes:
        name: TensorRT's name, made of those of the nodes it fused.
        kind: such as CaskConvolution, gemm, Reformat.
        weights: precision of its weights, "" when it does not tell.
        inputs: precisions of the tensors it reads.
        outputs: precisions of the tensors it writes.
        nodes: names of the ONNX nodes it was made of.
    """

    name: str
    kind: str
    weights: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def precision(self) -> str:
        """What it computes in: the type of its weights, else of its first input, else of its output."""
        return self.weights or next((one for one in (*self.inputs[:1], *self.outputs[:1]) if one), "unknown")


def parse_engine(text: str) -> tuple[EngineLayer, ...]:
    """The layers of an engine, from the inspector's JSON of TensorRT 10.x or 11.x.

    Raises:
        IntegrityError: no JSON, or only names of layers, from which no precision can be told.
    """
    try:
        found = list(json.loads(text)["Layers"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the engine inspector gave something else than JSON with layers ({error})", fix="zoo build --rebuild"
        ) from error
    if found and not all(isinstance(layer, dict) for layer in found):
        raise IntegrityError(
            "the engine was built without detailed profiling verbosity: it does not tell its layers' precisions",
            fix="build it with zoo, or with --profilingVerbosity=detailed",
        )
    return tuple(_layer(layer) for layer in found)


def make_receipt(
    layers: Sequence[EngineLayer], plan: Sequence[Layer], *, runtime: str, provider: str, tf32: bool
) -> Receipt:
    """What ran, by the layers of the plan.

    A planned layer ran at what the engine layer that it became part of computes in. One that no engine layer names is
    left out of `ran`: it counts as not shown to run as planned.
    """
    ran: dict[str, str] = {}
    for planned in plan:
        holders = [layer for layer in layers if planned.name in layer.nodes and layer.kind not in _REFORMATS]
        seen = {layer.precision for layer in holders}
        if seen:  # several, when TensorRT split it: the widest one counts
            ran[planned.name] = max(seen, key=lambda precision: BITS.get(precision, 99))
    higher = [one.name for one in plan if one.name in ran and BITS.get(ran[one.name], 99) > BITS.get(one.precision, 0)]
    unknown = len(plan) - len(ran)
    counted = Counter(ran.values()) + Counter({"unknown": unknown} if unknown else {})
    return Receipt(
        runtime=runtime,
        device="cuda",
        provider=provider,
        layers=dict(counted),
        ran=ran,
        higher=tuple(higher),
        reformats=sum(layer.kind in _REFORMATS for layer in layers),
        tf32=tf32,
    )


def precision_in(text: str) -> str:
    """A precision in TensorRT's words; "" for none of ours.

    >>> precision_in("Channel major FP16 format where channel % 8 == 0"), precision_in("N/A due to dynamic shapes")
    ('fp16', '')
    """
    return next((name for name, pattern in _TYPES if re.search(pattern, text.lower())), "")


def _layer(layer: dict[str, Any]) -> EngineLayer:
    name = str(layer.get("Name", ""))
    weights = layer.get("Weights")
    return EngineLayer(
        name=name,
        kind=str(layer.get("LayerType", "")),
        weights=precision_in(str(weights.get("Type", ""))) if isinstance(weights, dict) else "",
        inputs=_tensors(layer.get("Inputs")),
        outputs=_tensors(layer.get("Outputs")),
        nodes=_nodes(str(layer.get("Metadata", "")), name),
    )


def _tensors(found: Any) -> tuple[str, ...]:
    tensors = found if isinstance(found, list) else []
    keys = ("Format/Datatype", "Datatype", "DataType", "Format")
    return tuple(
        next((precision_in(str(one[key])) for key in keys if precision_in(str(one.get(key, "")))), "")
        for one in tensors
        if isinstance(one, dict)
    )


def _nodes(metadata: str, name: str) -> tuple[str, ...]:
    """From the metadata; where that is empty, from the name, whose parts are joined by " + "."""
    found = re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata)
    return tuple(dict.fromkeys(found)) if found else tuple(part.strip() for part in name.split(" + ") if part.strip())
