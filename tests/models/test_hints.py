from __future__ import annotations

from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.models.sources import resolve


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.onnx", "is an ONNX graph.*zoo lint net.onnx"),
        ("a net.onnx", "zoo lint 'a net.onnx' looks.*--graph 'a net.onnx'"),
        ("a net.pt", "--weights 'a net.pt'"),
        ("net.pt", "a file of weights.*--weights net.pt"),
        ("net.PTH", "a file of weights.*--weights net.PTH"),
        ("net.safetensors", "a file of weights"),
        ("photo.JPG", "is an image.*zoo predict SOURCE photo.JPG"),
        ("net.zoo", "is a package, which runs by itself; python net.zoo predict"),
        ("nets/mine.py", "nets.mine:FUNCTION"),
        ("net.plan", "an engine of TensorRT"),
        ("all.toml", "zoo run all.toml"),
        ("other.xyz", "is no run folder"),
        ("made/artifact.json", "made is an artifact"),
        ("stopped/checkpoint.safetensors", "not finished.*--resume"),
        ("pictures/train/cat/1.png", "a folder of images.*--data pictures"),
        ("empty/.keep", "it has no run.json"),
    ],
)
def test_what_is_no_source_is_told_with_the_command_that_takes_it(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).touch()
    in_it = name.startswith(("made", "stopped", "pictures", "empty"))
    with pytest.raises(UsageError, match=words):
        resolve(Path(name).parts[0] if in_it else name)
