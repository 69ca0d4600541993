"""int8 accuracy on real images: what `zoo export` wrote, beside ONNX Runtime's quantize_static and NNCF.

    zoo train mobilenet_v2 --data fashion-mnist
    zoo export runs/mobilenet_v2-fashion-mnist --to onnx,torchscript --int8 --data fashion-mnist
    .venv/bin/python benchmarks/quantisation_accuracy.py runs/mobilenet_v2-fashion-mnist [RUN ...]

All calibrate with the same 512 training images and answer all test images of the data the run was trained on. Speed is
fp32 over int8 of ONNX Runtime at the run's own input, batch 1, five rounds in processes of their own. NNCF's rows are
there where it is installed (`pip install nncf`).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from quantize_static import static
from timed_files import ratios
from zoo.calibration.images import choose_images
from zoo.exporter.artifact.folder import read_manifest
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.onnx import int8 as for_onnx
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.accuracy import interval_of_drop, measure_accuracy
from zoo.models.data.catalog import open_data
from zoo.models.data.dataset import batches
from zoo.models.preprocess import normalise
from zoo.models.runs import read_run
from zoo.models.sources import resolve

Images = np.ndarray
Run = Callable[[Images], np.ndarray]


def session(content: bytes) -> Run:
    """Run an ONNX graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda batch: np.asarray(made.run(None, {made.get_inputs()[0].name: batch})[0])


def by_nncf(graph: onnx.ModelProto, images: Images, preset: str) -> bytes:
    """NNCF's post-training quantisation with the images of the others."""
    nncf = importlib.import_module("nncf")

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset(images[:, None], lambda one: {"images": one})
    kind = nncf.QuantizationPreset(preset)
    return nncf.quantize(graph, data, preset=kind, subset_size=len(images)).SerializeToString()


def main(runs: list[Path]) -> None:
    """Print a Markdown table, a few rows a run."""
    print("| model | int8 by | top-1 | drop, points (95 % bound) | agreement | fp32 over int8 |")
    print("|---|---|---|---|---|---|")
    for folder in runs:
        run, model = read_run(folder), resolve(str(folder))
        data = open_data(run.reached.data)
        spec = model.spec
        chosen, _ = choose_images(data.train.labels, 512, 0)
        split = data.train.take(chosen)
        images = np.concatenate([normalise(one, spec.preprocess) for one, _ in batches(split, spec.preprocess, 64)])
        test = [normalise(one, spec.preprocess) for one, _ in batches(data.val, spec.preprocess, 100)]
        graph = for_onnx.prepare(export_graph(model.module, spec, "fp32", Batch(1, 8, 1024)))
        reference = np.concatenate([*map(session(graph.SerializeToString()), test)])
        print(f"| {spec.name} | fp32 | {(reference.argmax(1) == data.val.labels).mean():.2%} | | | |", flush=True)
        with tempfile.TemporaryDirectory() as place:
            graphs: dict[str, bytes] = {}
            ours = Path("exports") / spec.name / "onnx-int8"
            how = read_manifest(ours).options["int8"]
            name = f"zoo, onnx ({how['method']}{', bias corrected' if how['bias_correction'] else ''})"
            graphs[name] = (ours / "model.onnx").read_bytes()
            for method in ("MinMax", "Entropy", "Percentile"):
                graphs[f"quantize_static, {method}"] = static(graph, images, Path(place), method)
            if importlib.util.find_spec("nncf") is not None:
                for preset in ("performance", "mixed"):
                    graphs[f"NNCF, {preset}"] = by_nncf(graph, images, preset)
            found = ratios(graph.SerializeToString(), graphs, spec.input)
            answers = {one: np.concatenate([*map(session(content), test)]) for one, content in graphs.items()}
        script = Path("exports") / spec.name / "torchscript-int8"
        with get_backend("torchscript").load(script) as runner:
            answers["zoo, torchscript"] = np.concatenate([runner.run(one) for one in test])
        for one, got in answers.items():
            paired = measure_accuracy(reference, got, data.val.labels)
            agreement = (reference.argmax(1) == got.argmax(1)).mean()
            speed = ""
            if one in found:
                speed = f"{statistics.median(found[one]):.2f} ({min(found[one]):.2f} to {max(found[one]):.2f})"
            drop = f"{100 * paired.drop:.2f} ({100 * interval_of_drop(paired).high:.2f})"
            print(f"| | {one} | {paired.artifact:.2%} | {drop} | {agreement:.2%} | {speed} |", flush=True)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    main([Path(one) for one in sys.argv[1:]])
