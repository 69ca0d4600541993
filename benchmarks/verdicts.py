"""How often the gate `numerics` is wrong: right exports that it refuses, planted faults that it does not see.

    .venv/bin/python benchmarks/verdicts.py right --weights 0,1,2 --sizes 64 --out build/verdicts
    .venv/bin/python benchmarks/verdicts.py planted --weights 0 --out build/verdicts
    .venv/bin/python benchmarks/verdicts.py show --out build/verdicts --picture docs/benchmarks/verdicts.png > table.md

Each case is a line of a file in --out, and one that is there is not done again: what was stopped goes on. `right`
exports by zoo's own function and keeps how far truth, yardstick and artifact are apart for every golden image, so that
`show` can judge the same exports by other rules. `planted` puts faults into modules, preprocessing and graphs
(benchmarks/planted.py). Weights are seeds, `trained` (on the digits, by zoo train) or `own` (what the source brings).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import planted
import torch
from zoo.errors import ZooError
from zoo.exporter.artifact.folder import golden_batch, load_artifact
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.faithful import measure_distances
from zoo.exporter.checks.numerics import TOLERANCES, judge_numerics, measure_numerics
from zoo.exporter.export import export
from zoo.exporter.quantize.options import Int8Options
from zoo.models.data.catalog import open_data
from zoo.models.sources import Model, SourceOptions, resolve

FAMILIES = (
    "alexnet", "vgg11_bn", "googlenet", "resnet18", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small",
    "efficientnet_b0",
)  # fmt: skip
STRANGERS = (
    "timm:convnext_atto", "timm:efficientvit_b0", "timm:repvgg_a0", "timm:mobilenetv3_small_050", "timm:ghostnet_050",
    "timm:lcnet_050", "timm:tinynet_e", "timm:resnet10t", "timm:nf_resnet26", "timm:mobilevit_xxs",
)  # fmt: skip
CASES = {
    "eager": ("fp32", "fp16", "bf16"),
    "torchscript": ("fp32", "fp16", "bf16", "int8"),
    "onnx": ("fp32", "fp16", "bf16", "int8"),
}
IMAGES = 64  # for calibration: a verdict is asked for, not accuracy


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["right", "planted", "show"])
    parser.add_argument("--models", default=",".join(FAMILIES))
    parser.add_argument("--weights", default="0")
    parser.add_argument("--sizes", default="64")
    parser.add_argument("--cases", default="")
    parser.add_argument("--out", type=Path, default=Path("build/verdicts"))
    parser.add_argument("--picture", type=Path, help="of show: where the rules' error rates are drawn")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ZOO_CACHE", str(asked.out / "cache"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if asked.what == "show":
        import verdict_tables

        sys.stdout.write(verdict_tables.show(asked.out, asked.picture))
        return
    models = FAMILIES if asked.models == "families" else STRANGERS if asked.models == "strangers" else asked.models
    names = models.split(",") if isinstance(models, str) else models
    with (asked.out / f"{asked.what}.jsonl").open("a+", encoding="utf-8") as file:
        file.seek(0)
        done = {tuple(json.loads(line)["case"]) for line in file}
        for name in names:
            for weights in asked.weights.split(","):
                for size in map(int, asked.sizes.split(",")):
                    make = right if asked.what == "right" else faults
                    for row in make(name, weights, size, done, asked.cases, asked.out):
                        file.write(json.dumps(row) + "\n")
                        file.flush()


def model_of(name: str, weights: str, size: int, out: Path) -> Model:
    """A source with seeded, trained or its own weights."""
    if weights == "trained":
        run = out / "runs" / f"{name.replace(':', '-')}-{size}"
        if not (run / "run.json").is_file():
            import subprocess

            command = [sys.executable, "-m", "zoo", "train", name, "--data", "digits", "--epochs", "3"]
            command += ["--input", f"3x{size}x{size}", "--stem", "paper", "--out", str(run), "--overwrite"]
            command += ["--set", "precision=fp32"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return resolve(str(run), SourceOptions())
    shape = (3, size, size) if size else None
    options = SourceOptions(input=shape) if weights == "own" else SourceOptions("random", shape, seed=int(weights))
    return resolve(name, options)


def right(name: str, weights: str, size: int, done: set[Any], only: str, out: Path) -> Iterator[dict[str, Any]]:
    """Every backend and precision of one network, exported as `zoo export` does."""
    wanted = [
        (backend, precision)
        for backend, precisions in CASES.items()
        for precision in precisions
        if (not only or f"{backend}-{precision}" in only.split(","))
        if (name, weights, size, backend, precision) not in done
    ]
    if not wanted:
        return
    model, data = model_of(name, weights, size, out), open_data("digits")
    for precision in ("fp32", "fp16", "bf16", "int8"):
        backends = [backend for backend, own in wanted if own == precision]
        if not backends:
            continue
        int8 = Int8Options(IMAGES, never_slower=False) if precision == "int8" else None
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            rows = export(model, backends, ExportOptions(precision), out=folder, data=data, int8=int8)
            for row in rows:
                case = [name, weights, size, row.backend, precision]
                failed = row.folder.with_name(f".{row.folder.name}.failed")
                found: dict[str, Any] = {"case": case, "seconds": round(time.perf_counter() - begun, 1)}
                if row.golden is not None:
                    found |= {"verdict": row.golden.verdict, "reason": row.golden.reason}
                if row.error is not None:
                    found |= {"verdict": "refused" if row.error.exit_code == 4 else "error", "reason": str(row.error)}
                place = row.folder if row.error is None else failed
                if place.is_dir():
                    found |= distances(place, model.meaningful)
                sys.stderr.write(f"{case} {found.get('verdict')}: {str(found.get('reason'))[:110]}\n")
                yield found


def distances(folder: Path, trained: bool) -> dict[str, Any]:
    """Of every golden image, and what the fixed tolerances of before would say."""
    artifact = load_artifact(folder)
    golden, backend = artifact.golden(), artifact.manifest.backend
    if golden.truth is None or golden.yardstick is None:
        return {"without": golden.computed}
    try:
        with get_backend(backend).load(artifact, "cpu") as runner:
            got = runner.run(golden_batch(golden, artifact))
    except ZooError as error:
        return {"without": str(error)}
    return numbers_of(golden, got, artifact.manifest.precision, backend, trained)


def numbers_of(golden: Any, got: Any, precision: str, backend: str, trained: bool) -> dict[str, Any]:
    """Distances by image, and the verdict of the fixed tolerances."""
    if not np.isfinite(got).all():
        return {"finite": False, "fixed": "fail"}
    found = measure_distances(golden.truth, golden.yardstick, got)
    measured = measure_numerics(golden.logits, got)
    fixed = judge_numerics(measured, precision, trained=trained, backend=backend)
    agreement = {"fp32": 1.0, "fp16": 0.99, "bf16": 0.95, "int8": 0.93} if trained else {}
    flips = round((1 - measured.agreement) * measured.images)
    flipped = flips > (1 if precision == "int8" else 0) and measured.agreement < agreement.get(precision, 0.0)
    rows = {key: [float(f"{one:.4g}") for one in value] for key, value in dataclasses.asdict(found).items()}
    return {
        **rows, "finite": True, "jitter": golden.jitter, "fixed": "fail" if flipped else fixed.verdict,
        "relative": measured.relative, "tolerance": TOLERANCES[precision].relative,
    }  # fmt: skip


def faults(name: str, weights: str, size: int, done: set[Any], only: str, out: Path) -> Iterator[dict[str, Any]]:
    """Every planted fault that one network can have."""
    model, data = model_of(name, weights, size, out), open_data("digits")
    for case, judged in planted.plant(model, data, {one for one in done if one[:3] == (name, weights, size)}, only):
        row = {"case": [name, weights, size, *case], **judged}
        sys.stderr.write(f"{row['case']} {row['seen_by'] or 'NOT SEEN'}: {str(row.get('reason'))[:110]}\n")
        yield row


if __name__ == "__main__":
    main()
