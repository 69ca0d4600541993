"""A result as `zoo check --json` prints it: three artifacts, one of which fails, and one that cannot run here."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CONVOLUTIONS = 20


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


def artifact(
    drawn: np.random.Generator, backend: str, precision: str, *, p50: float, against: str, flips: int
) -> dict[str, Any]:
    integer = precision == "int8"
    return {
        "artifact": f"exports/resnet18/{backend}-{precision}", "model": "resnet18", "backend": backend,
        "precision": precision, "bytes": 11_700_000 if integer else 44_800_000, "weights": "run runs/resnet18",
        "weights_sha256": "7c1d" * 16, "exported": "2026-11-24T20:00:00+00:00", "tools": {"torch": "2.14.1"},
        "receipt": {
            "runtime": f"{backend} 1.0", "device": "cpu", "layers": {precision: CONVOLUTIONS + 1},
            "provider": "CPUExecutionProvider" if backend == "onnx" else "",
        },
        "layers": layers(precision, tells=backend == "onnx"),
        "gates": [
            numerics(integer), consistency(), accuracy(drawn, flips), latency(drawn, p50, against),
            {
                "name": "precision", "verdict": "pass", "reason": f"all layers ran in {precision}",
                "layers": {precision: CONVOLUTIONS + 1},
            },
            {"name": "regression", "verdict": "skipped", "reason": "no baseline was given", "top1_before": None},
        ],
    }  # fmt: skip


def layers(precision: str, *, tells: bool) -> list[dict[str, Any]]:
    found = []
    for index in range(CONVOLUTIONS):
        kept = precision == "int8" and index in (0, 12)
        planned = "fp32" if kept else precision
        found.append(
            {
                "name": f"node_conv2d_{index}", "op": "Conv", "precision": planned, "ran": planned if tells else None,
                "macs": 118_013_952 if index % 4 else 28_901_376,
                "reason": "int8 here would cost 0.4 points of top-1" if kept else "",
            }
        )  # fmt: skip
    return found


def numerics(failed: bool) -> dict[str, Any]:
    found = {
        "name": "numerics", "verdict": "pass", "reason": "relative error 4.1e-06 <= 0.0001, over 10000 images",
        "images": 10000, "max_abs": 1.2e-4, "spread": 30.1, "relative": 4.1e-6, "cosine": 0.9999999,
        "agreement": 1.0, "sqnr_db": 112.4, "kl": 1.3e-11, "tolerance": 1e-4,
        "tolerance_reason": "the same arithmetic in another order", "bisect": None,
    }  # fmt: skip
    if failed:
        found |= {
            "verdict": "fail", "reason": "relative error 0.31 > 0.2, over 10000 images", "relative": 0.31,
            "max_abs": 9.4, "cosine": 0.962, "agreement": 0.996, "sqnr_db": 21.2, "kl": 0.0041, "tolerance": 0.2,
            "tolerance_reason": "8 bits a value; whether that is good enough, accuracy says",
            "bisect": {
                "layer": "node_conv2d_5", "op": "Conv", "weight": "layer2.0.conv1.weight", "error": 0.27,
                "input_error": 0.031, "low": -2.1, "high": 43.4,
                "advice": "its input has rare large values: calibrate with --method mse, or keep the layer in fp32",
            },
        }  # fmt: skip
    return found


def consistency() -> dict[str, Any]:
    looks = ("one by one and 5 at once", "identical rows of a batch", "in another order", "a repeated run")
    checks = [{"name": name, "difference": 0.0, "allowed": 0.0, "passed": True} for name in looks]
    return {"name": "consistency", "verdict": "pass", "reason": "4 looks, all the same", "checks": checks}


def accuracy(drawn: np.random.Generator, flips: int) -> dict[str, Any]:
    change = drawn.integers(-6, 5, len(CLASSES)) / 1000 if flips else np.zeros(len(CLASSES))
    before = np.linspace(0.81, 0.99, len(CLASSES)).round(3)
    pairs = [("Shirt", "Coat", 40, 43), ("Pullover", "Shirt", 51, 49), ("Dress", "Coat", 12, 13)]
    shape = np.geomspace(30, 6000, 20).astype(int)
    return {
        "name": "accuracy", "verdict": "pass", "reason": "top-1 92.60%, reference 92.64%; drop at most 0.12 points",
        "images": 10000, "reference": 0.9264, "top1": 0.926 if flips else 0.9264, "drop": 0.0004 if flips else 0.0,
        "drop_low": -0.001 if flips else -0.0003, "drop_high": 0.0012 if flips else 0.0003,
        "lost": 12 if flips else 0, "gained": 8 if flips else 0, "mcnemar_p": 0.5034 if flips else 1.0,
        "max_drop": 0.005 if flips else 0.001, "reference_top5": 0.9987, "top5": 0.9986, "reference_ece": 0.0301,
        "ece": 0.0322,
        "classes": [
            {"label": label, "images": 1000, "reference": float(was), "artifact": float(round(was + moved, 3))}
            for label, was, moved in zip(CLASSES, before, change)
        ],
        "confusion": [
            {"label": label, "answer": answer, "reference": was, "artifact": now} for label, answer, was, now in pairs
        ] if flips else [],
        "margins": {
            "edges": np.linspace(0, 1, 21).tolist(), "reference": shape.tolist(),
            "artifact": (shape + (drawn.integers(-9, 9, 20) if flips else 0)).tolist(),
        },
        "flips": [
            {
                "index": index * 10, "label": "Shirt", "reference": "Shirt" if index % 2 else "Coat",
                "reference_p": 0.61 - index / 200, "artifact": "Coat" if index % 2 else "Shirt",
                "artifact_p": 0.57 - index / 300,
            }
            for index in range(min(flips, 12))
        ],
        "flips_in_all": flips,
    }  # fmt: skip


def latency(drawn: np.random.Generator, p50: float, against: str) -> dict[str, Any]:
    base = 8.3 if against == "eager" else 6.1
    times = (p50 * drawn.lognormal(0, 0.03, 400)).round(4)
    times[::67] *= 1.4
    return {
        "name": "latency", "verdict": "inconclusive" if p50 > 7 else "pass",
        "reason": f"cannot tell whether it is slower than {against}: about --rounds 60" if p50 > 7 else "faster",
        "against": against, "margin": 0.03, "ratio": p50 / base, "ratio_low": p50 / base * 0.97,
        "ratio_high": p50 / base * 1.03, "control": 1.001, "control_low": 0.99, "control_high": 1.01, "rounds": 20,
        "samples": 400, "p50_ms": float(np.percentile(times, 50)), "p90_ms": float(np.percentile(times, 90)),
        "p95_ms": float(np.percentile(times, 95)), "p99_ms": None, "reference_p50_ms": base, "load_ms": 80.2,
        "first_ms": 4.1, "peak_memory_mb": 180.5, "times_ms": times.tolist(),
        "throughput": [{"batch": 1, "images_per_s": 470.1}, {"batch": 8, "images_per_s": 1210.7}],
        "reference_times_ms": (base * drawn.lognormal(0, 0.03, 400)).round(4).tolist(),
    }  # fmt: skip


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
