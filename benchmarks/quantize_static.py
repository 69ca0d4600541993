"""ONNX Runtime's own quantize_static, for the benchmarks that compare with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

Images = np.ndarray


def static(graph: onnx.ModelProto, images: Images, folder: Path, method: str) -> bytes:
    """ONNX Runtime's own tool at the setting that is fastest on its CPU."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images[:, None])

        def get_next(self) -> dict[str, Images]:
            batch = next(self.left, None)
            return {} if batch is None else {"images": batch}

    source, ready, made = folder / "f.onnx", folder / "p.onnx", folder / "q.onnx"
    onnx.save(graph, source)
    quant_pre_process(str(source), str(ready))
    quantize_static(
        str(ready), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, method),
    )  # fmt: skip
    return made.read_bytes()
