"""A Triton model repository: its config is one to Triton's own protobuf, and its files are the artifacts'."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import as_json, reseal, zoo
from google.protobuf import text_format
from zoo.errors import UnavailableError, UsageError
from zoo.exporter.artifact.folder import load_artifact, read_manifest, seal
from zoo.exporter.artifact.manifest import Platform
from zoo.exporter.package.layouts.triton import config_of, model_config_pb2, write_repository


def config(folder: Path):
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2().ModelConfig())


def test_one_model_of_one_artifact(exported: dict[str, Path], tmp_path: Path) -> None:
    spec = read_manifest(exported["onnx"]).spec
    assert write_repository([exported["onnx"]], tmp_path / "models") == [spec.name]
    folder = tmp_path / "models" / spec.name
    found = config(folder)
    assert (found.name, found.platform) == (spec.name, "onnxruntime_onnx")
    batch = read_manifest(exported["onnx"]).batch
    assert batch is not None
    assert found.max_batch_size == batch.max
    assert list(found.input[0].dims) == list(spec.input)
    assert [one.name for one in (*found.input, *found.output)] == ["images", "logits"]
    assert (folder / "labels.txt").read_text().splitlines() == list(spec.labels)
    assert (folder / "1" / "model.onnx").read_bytes() == (exported["onnx"] / "model.onnx").read_bytes()
    assert json.loads(found.parameters["zoo.spec"].string_value)["name"] == spec.name
    assert found.dynamic_batching.max_queue_delay_microseconds == 100


def test_a_model_that_normalises_by_itself_takes_bytes(exported: dict[str, Path], tmp_path: Path) -> None:
    before = read_manifest(exported["onnx"])
    seal(exported["onnx"], replace(before, pixels=True))
    (name,) = write_repository([exported["onnx"]], tmp_path / "models")
    found = config(tmp_path / "models" / name)
    channels, height, width = before.spec.input
    assert found.input[0].data_type == model_config_pb2().TYPE_UINT8
    assert list(found.input[0].dims) == [height, width, channels]
    assert found.parameters["zoo.outside"].string_value.startswith("decode to RGB")


def test_several_formats_are_several_models(exported: dict[str, Path], tmp_path: Path) -> None:
    names = write_repository([exported["onnx"], exported["torchscript"]], tmp_path / "models")
    assert len(names) == len(set(names)) == 2
    torch = config(tmp_path / "models" / names[1])
    assert torch.platform == "pytorch_libtorch"
    assert [torch.input[0].name, torch.output[0].name] == ["INPUT__0", "OUTPUT__0"]


def test_plans_for_several_gpus_are_one_model(exported: dict[str, Path], tmp_path: Path) -> None:
    for index, capability in enumerate(("8.6", "9.0", "8.6")):
        folder = tmp_path / f"gpu{index}"
        shutil.copytree(exported["onnx"], folder)
        before = read_manifest(folder)
        (folder / "model.onnx").rename(folder / "model.plan")
        platform = Platform("10.13", "GPU", capability, "580", "Linux x86_64")
        seal(folder, replace(before, backend="trt", model="model.plan", platform=platform, precision="fp16"))
    names = write_repository([tmp_path / "gpu0", tmp_path / "gpu1"], tmp_path / "models")
    found = config(tmp_path / "models" / names[0])
    assert dict(found.cc_model_filenames) == {"8.6": "model_cc86.plan", "9.0": "model_cc90.plan"}
    assert found.default_model_filename == "model_cc86.plan"
    assert found.instance_group[0].kind == model_config_pb2().ModelInstanceGroup.KIND_GPU
    assert (tmp_path / "models" / names[0] / "1" / "model_cc90.plan").is_file()
    with pytest.raises(UsageError, match="two plans are for compute capability 8.6"):
        write_repository([tmp_path / "gpu0", tmp_path / "gpu2"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_int8_stays_on_the_cpu(exported: dict[str, Path]) -> None:
    reseal(exported["onnx"], precision="int8")
    pb2 = model_config_pb2()
    found, files = config_of(pb2, "m", [load_artifact(exported["onnx"])])
    assert found.instance_group[0].kind == pb2.ModelInstanceGroup.KIND_CPU
    assert files == ["model.onnx"]


def test_what_is_in_the_way_or_not_built(exported: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").touch()
    with pytest.raises(UsageError, match="is in the way"):
        write_repository([exported["onnx"]], tmp_path / "models")
    with pytest.raises(UsageError, match="onnx-fp32"):
        write_repository([exported["onnx"], exported["onnx"]], tmp_path / "other")
    reseal(exported["onnx"], built=False, backend="trt", model="model.plan")
    with pytest.raises(UnavailableError, match="not built yet"):
        write_repository([exported["onnx"]], tmp_path / "other")


def test_the_command(exported: dict[str, Path], tmp_path: Path) -> None:
    done = zoo("package", exported["onnx"], "--layout", "triton", "--out", "models", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (name,) = as_json(done)["models"]
    assert (tmp_path / "models" / name / "config.pbtxt").is_file()
    done = zoo("package", exported["onnx"], "--layout", "bento", cwd=tmp_path)
    assert done.returncode == 2
    done = zoo("package", exported["onnx"], "--layout", "triton", "--require-checked", cwd=tmp_path)
    assert done.returncode == 4
