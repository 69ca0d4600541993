"""Rows of artifacts as `zoo check --json` prints them, and as evidence keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CONVOLUTIONS = 20


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
