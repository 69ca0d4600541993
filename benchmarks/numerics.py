"""How far each backend and precision is from the fp32 reference, for one model of each family: what the tolerances
of exporter/checks/numerics.py were chosen by.

    .venv/bin/python benchmarks/numerics.py

Random weights with live statistics, 16 images: noise and made pictures, at 128 x 128.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from zoo.errors import ZooError
from zoo.exporter.artifact.golden import made_images, make_golden
from zoo.exporter.artifact.manifest import Precision
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.numerics import TOLERANCES, measure_numerics
from zoo.models.preprocess import prepare
from zoo.models.registry import FAMILIES
from zoo.models.sources import SourceOptions, logits_of, resolve

EXTRA = ("resnet50", "mobilenet_v3_large")


def main() -> None:
    """Print a Markdown table: relative error, cosine and top-1 agreement by model, backend and precision."""
    print("| model | backend | precision | relative error | tolerance | cosine | agreement | best constant answer |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [*(next(iter(family.variants)) for family in FAMILIES), *EXTRA]:
        model = resolve(name, SourceOptions(weights="random", input=(3, 128, 128)))
        noise = np.random.default_rng(0).normal(size=(8, 3, 128, 128)).astype(np.float32)
        images = np.concatenate([noise, prepare(made_images(model.spec.input, 0, 8), model.spec.preprocess)])
        reference = logits_of(model.module, images)
        cases: tuple[tuple[str, Precision], ...] = (
            ("torchscript", "fp32"), ("onnx", "fp32"), ("onnx", "fp16"), ("eager", "fp16"), ("eager", "bf16"),
        )  # fmt: skip
        for backend, precision in cases:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    made = get_backend(backend).export(
                        model, make_golden(model, None), ExportOptions(precision), Path(folder) / "a"
                    )
                    with get_backend(backend).load(made) as runner:
                        got = measure_numerics(reference, runner.run(images))
                except ZooError as error:
                    print(f"| {name} | {backend} | {precision} | {error} | | | | |")
                    continue
            print(
                f"| {name} | {backend} | {precision} | {got.relative:.1e} | {TOLERANCES[precision].relative:g} "
                f"| {got.cosine:.6f} | {got.agreement:.2f} | {got.variation:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
