"""A result as `zoo check --json` prints it: three artifacts, one of which fails, and one that cannot run here."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy as np
import pytest
from check_rows import artifact
from PIL import Image


@pytest.fixture
def sample(result: dict[str, Any]) -> dict[str, Any]:
    """A copy that a test may change."""
    return copy.deepcopy(result)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return sample_result()


@pytest.fixture(scope="module")
def pictures() -> dict[int, bytes]:
    drawn = np.random.default_rng(0)
    return {index: png(drawn.integers(0, 256, (28, 28), dtype=np.uint8)) for index in range(0, 400, 10)}


@pytest.fixture(scope="module")
def profile_of_four() -> dict[str, Any]:
    return profile_result()


@pytest.fixture
def profiled() -> dict[str, Any]:
    """What `zoo profile` found on four devices, of which one could not be reached."""
    return profile_result()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sample_result() -> dict[str, Any]:
    drawn = np.random.default_rng(1)
    rows = [
        artifact(drawn, "torchscript", "fp32", p50=7.4, against="eager", flips=0),
        artifact(drawn, "onnx", "fp32", p50=6.1, against="eager", flips=0),
        artifact(drawn, "onnx", "int8", p50=2.1, against="onnx-fp32", flips=40),
        {
            "artifact": "exports/resnet18/trt-fp16", "backend": "trt", "precision": "fp16", "gates": [],
            "error": {"kind": "unavailable", "message": "TensorRT is not installed", "fix": "pip install tensorrt"},
        },
    ]  # fmt: skip
    result = {
        "ok": False,
        "exit_code": 4,
        "created": "2026-11-25T01:02:03+00:00",
        "command": "zoo check exports/resnet18/* --data fashion-mnist --latency --html report.html",
        "data": {"name": "fashion-mnist", "images": 10000},
        "versions": {"zoo": "0.1.0", "python": "3.11.7", "torch": "2.14.1", "onnxruntime": "1.31.1"},
        "machine": {
            "cpu": "AMD EPYC", "cores": 2, "threads": 2, "affinity": [0, 1], "system": "Linux x86_64", "gpu": None,
            "memory_gb": 23.5, "load_before": 0.3, "load_after": 1.9, "foreign_cpu": 0.02, "steal": 0.0,
            "mhz_low": None, "mhz_high": None, "throttled": 0, "notes": ["clocks cannot be read here"],
        },
        "notes": ["fashion-mnist: grey is repeated to three channels"],
        "artifacts": rows,
    }  # fmt: skip
    return json.loads(json.dumps(result, allow_nan=False))


def profile_result() -> dict[str, Any]:
    """An Orin with tegrastats and an engine, a Pi whose operators were timed, this machine, and one that is off."""
    told = {"seconds": 7.1, "temperatures": {}, "mhz": None, "throttled": [], "watts": {}, "joules": {}, "silent": [],
            "gpu_mhz": None, "total": ""}  # fmt: skip
    kinds = {"Conv": 20, "Relu": 9, "Add": 8, "MaxPool": 1, "GlobalAveragePool": 1, "Gemm": 1, "ReorderOutput": 2}
    nodes = [
        {"name": f"/layer{index % 4 + 1}/{kind}_{index}", "kind": kind, "layer": f"layer{index}" if index % 2 else "",
         "microseconds": 4200.0 / (index + 1) if kind == "Conv" else 90.0 / (index + 1)}
        for kind, number in kinds.items() for index in range(number)
    ]  # fmt: skip
    devices = [
        {
            **profile_device("orin", "ssh://me@orin", "trt-fp16", {1: 0.92, 8: 3.1}), "machine": "Orin, NVIDIA Jetson",
            "runtime": "TensorRT 10.3.0.26, fp16 x21", "notes": ["no CUDA graph could be captured for a batch of 8"],
            "built": {"seconds": 41.2, "golden": "pass", "notes": []}, "energy_of": "VDD_IN",
            "telemetry": {
                **told, "temperatures": {"cpu": [46.4, 51.0], "gpu": [46.0, 52.3], "tj": [46.4, 52.3]},
                "mhz": [729.0, 1510.0], "gpu_mhz": [306.0, 612.0], "silent": ["throttling"], "total": "VDD_IN",
                "watts": {"VDD_IN": 7.42, "VDD_CPU_GPU_CV": 2.9, "VDD_SOC": 1.7},
            },
        },
        {
            **profile_device("pi", "ssh://pi@board:22", "onnx-int8", {1: 21.4, 8: 160.2}), "operators": nodes,
            "accuracy": [463, 500], "telemetry": {
                **told, "temperatures": {"cpu-thermal": [51.0, 80.2]}, "mhz": [1500.0, 1800.0],
                "throttled": ["clock capped", "throttled"], "silent": ["power or energy"],
            },
        },
        {
            **profile_device("local", "local", "onnx-int8", {1: 2.1, 8: 14.9}), "energy_of": "package-0",
            "telemetry": {**told, "joules": {"package-0 (intel-rapl:0)": 210.0}, "mhz": [3200.0, 3400.0]},
        },
        {
            "device": "cellar", "on": "ssh://me@cellar",
            "error": {"kind": "unavailable", "message": "cellar: No route to host", "fix": "see that it is on"},
        },
    ]  # fmt: skip
    devices[0]["rows"] = [{**row, "gpu_ms": 0.8 * row["percentiles"]["p50"]} for row in devices[0]["rows"]]
    result = {
        "ok": False, "exit_code": 3, "created": "2026-11-25T01:02:03+00:00",
        "command": "zoo profile resnet18.zoo --on devices.toml --batch-sizes 1,8 --per-layer --html profile.html",
        "versions": {"zoo": "0.1.0", "onnxruntime": "1.31.1"}, "what": "resnet18.zoo",
        "options": {"batch sizes": [1, 8], "threads": "as the runtime chooses"}, "devices": devices,
    }  # fmt: skip
    return json.loads(json.dumps(result, allow_nan=False))


def profile_device(name: str, on: str, artifact: str, medians: dict[int, float]) -> dict[str, Any]:
    rows = [
        {
            "batch": batch, "first": 3 * median, "interval": [0.98 * median, 1.03 * median], "cpu": 2 * median,
            "percentiles": {"p50": median, "p90": 1.1 * median} | ({"p99": 1.4 * median} if median < 3 else {}),
            "runs": int(3000 / median), "per_second": 990 * batch / median, "joules": None if name == "pi" else 0.0071,
        }
        for batch, median in medians.items()
    ]  # fmt: skip
    return {
        "device": name, "on": on, "artifact": artifact, "load": 81.4, "rows": rows, "operators": [], "peak_mb": 142.6,
        "machine": f"the machine {name}, Linux aarch64, 4 cores", "runtime": "onnxruntime 1.31.1", "energy_of": "",
        "accuracy": None,
    }  # fmt: skip
