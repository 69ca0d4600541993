"""Evidence and profiles for a pipeline that is played: what real ones look like, for whatever node."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
from check_rows import artifact

MACHINE = {"cpu": "AMD EPYC", "cores": 2, "threads": 2, "system": "Linux x86_64", "gpu": None}
SPEED = {"torchscript-fp32": 7.4, "torchscript-int8": 4.9, "onnx-fp32": 6.1, "onnx-int8": 2.1}


def number(text: str) -> float:
    """From 0 to 1, always the same of the same text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:6], 16) / 0xFFFFFF


def evidence(node: Any) -> dict[str, Any]:
    """What a check of a node's artifact keeps; a pruned variant is faster and less accurate."""
    form = "-".join(node.form.split("-")[:2])
    backend, precision = form.split("-")
    p50 = SPEED.get(form, 0.9) * (0.6 if "small" in node.variant else 1.0) * (0.5 + number(node.variant))
    drawn = np.random.default_rng(int(1e6 * number(node.id)))
    row = artifact(drawn, backend, precision, p50=p50, against="eager", flips=40 if precision == "int8" else 0)
    gates = {gate["name"]: gate for gate in row["gates"]}
    top1 = 0.95 - 0.05 * number(node.variant) - (0.01 if "small" in node.variant else 0) - (precision == "int8") * 0.004
    gates["accuracy"] |= {"top1": top1, "reference": top1 + gates["accuracy"]["drop"]}
    gates["latency"] |= {"verdict": "pass", "device": "cpu", "machine": MACHINE, "reason": "faster",
                         "round_medians_ms": (p50 * drawn.lognormal(0, 0.02, 12)).tolist()}  # fmt: skip
    if node.variant != "resnet18":
        gates["numerics"] |= {"verdict": "pass", "reason": "relative error 0.01 <= 0.2"}
    return {
        "created": "2026-11-25T01:02:03+00:00", "command": f"zoo check {node.form}", "machine": MACHINE,
        "data": {"name": "digits", "images": 359}, "versions": {"zoo": "0.1.0"}, "artifact_sha256": "ab" * 32, **row,
        "model": node.variant.partition("-")[0], "artifact": f"out/exports/{node.variant}/model/{node.form}",
    }  # fmt: skip


def profile(node: Any) -> dict[str, Any]:
    """A board that ran the first artifact of a package, and one that is off."""
    p50 = 20 * (0.5 + number(node.variant))
    row = {
        "batch": 1, "first": 3 * p50, "interval": [0.98 * p50, 1.03 * p50], "cpu": 2 * p50,
        "percentiles": {"p50": p50}, "runs": 200, "per_second": 1000 / p50, "joules": None,
    }  # fmt: skip
    board = {"device": "pi", "on": "ssh://pi@board", "artifact": "onnx-int8", "load": 80.0, "rows": [row],
             "operators": [], "peak_mb": 90.0, "machine": "Pi 4", "runtime": "onnxruntime 1.31.1", "energy_of": "",
             "accuracy": None, "telemetry": {}}  # fmt: skip
    error = {"kind": "unavailable", "message": "cellar: No route to host", "fix": "see that it is on"}
    return {"what": "x", "devices": [board, {"device": "cellar", "on": "ssh://me@cellar", "error": error}]}


FORMS = ("torchscript-fp32", "onnx-fp32", "onnx-int8", "trt-fp16")


def result(variants: tuple[str, ...] = ("resnet18", "resnet18-small")) -> dict[str, Any]:
    """What the page is made of, without a pipeline that ran: a model and smaller ones made of it; trt is lacking."""
    from zoo.exporter.pipeline.candidates import fronts_of, name_of, picks_of

    nodes: list[dict[str, Any]] = []

    def add(kind: str, place: str, variant: str, needs: list[str], form: str = "", **more: Any) -> str:
        trt = form.startswith("trt") and kind in ("build", "check")
        state = "done" if not trt else "lacking" if kind == "build" else "blocked"
        reasons = {"lacking": "tensorrt is not installed here", "blocked": "waits for the artifact: lacking"}
        reason = reasons.get(state, "")
        name = "/".join(filter(None, (place, variant, form)))
        nodes.append(
            {
                "id": name, "step": kind, "kind": kind, "variant": variant, "form": form, "needs": needs,
                "state": state, "exit_code": 3 if state == "lacking" else 0, "reason": reason,
                "fix": "pip install tensorrt" if state == "lacking" else "", "path": f"out/{name}", "seconds": 1.5,
                "ended": "2026-11-25T01:02:03+00:00", "host": "here", "log": f"out/logs/{name}.log",
                "command": f"zoo {kind} {name}", "digest": hashlib.sha256(name.encode()).hexdigest(),
                "options": {"data": "digits", **more},
            }
        )  # fmt: skip
        return name

    for variant in variants:
        base = variant.removesuffix("-small")
        parent = [f"runs/{base}"] if base != variant else []
        model = add("prune" if parent else "train", "runs", variant, parent)
        checks = []
        for form in FORMS:
            place = "graphs" if form.startswith("trt") else "exports"
            made = add("export", place, variant, [model], form)
            made = add("build", "exports", variant, [made], form) if place == "graphs" else made
            checks.append(add("check", "checks", variant, [made], form))
        package = add("package", "packages", variant, checks)
        add("profile", "profiles", variant, [package], on="ssh://pi@board")
    rows = {
        name_of(node): {**evidence(SimpleNamespace(**node)), "label": name_of(node)}
        for node in nodes if node["kind"] == "check" and node["state"] == "done"
    }  # fmt: skip
    profiles = [(node, profile(SimpleNamespace(**node))) for node in nodes if node["kind"] == "profile"]
    return {
        "ok": False, "exit_code": 4, "created": "2026-11-25T01:02:03+00:00", "command": "zoo run pipeline.toml",
        "pipeline": "pipeline.toml", "out": "out", "versions": {"zoo": "0.1.0"}, "machine": None,
        "data": {"name": "digits", "images": 359}, "notes": [], "nodes": nodes, "artifacts": list(rows.values()),
        "profiles": [{"node": node["id"], "variant": node["variant"], "form": "", **found} for node, found in profiles],
        "picks": picks_of(nodes, rows, profiles), "fronts": fronts_of(nodes, rows),
    }  # fmt: skip
