"""--with-preprocess: the graph normalises to the last bit as `normalise` does, and says what it leaves outside."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import as_json, reseal, tiny_model, zoo
from zoo.errors import UsageError
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.bisect import Finding, bisect_artifact
from zoo.exporter.checks.run import check
from zoo.exporter.export import export
from zoo.models.preprocess import normalise, steps_outside, to_pixels
from zoo.models.sources import Model
from zoo.models.spec import ModelSpec, Preprocess

BACKENDS = ["onnx", "torchscript"]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
WITH = ExportOptions(with_preprocess=True)


def in_order(channels: str) -> Model:
    """A tiny model whose input is in another order of channels."""
    model = tiny_model()
    spec = dataclasses.replace(model.spec, preprocess=dataclasses.replace(model.spec.preprocess, channels=channels))
    return dataclasses.replace(model, spec=spec, transform=lambda image: spec_input(image, spec))


def spec_input(image, spec: ModelSpec) -> np.ndarray:
    return normalise(to_pixels(image, spec.preprocess)[None], spec.preprocess)


@pytest.fixture(scope="module", params=["RGB", "BGR"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Each backend's artifact that reads pixels, and the one that does not."""
    out, model = tmp_path_factory.mktemp("pixels"), in_order(request.param)
    made = {}
    for name in BACKENDS:
        pair = [export(model, name, options, out=out)[0] for options in (WITH, ExportOptions())]
        assert [row.error for row in pair] == [None, None]
        made[name] = pair[0].folder, pair[1].folder
    return made


@pytest.mark.parametrize("name", BACKENDS)
class TestArtifact:
    def test_it_answers_to_the_last_bit_as_one_that_is_given_normalised_images(self, folders, name: str) -> None:
        mine, other = folders[name]
        assert mine.name == f"{name}-fp32-pixels"
        spec = load_artifact(mine).manifest.spec
        with get_backend(name).load(mine) as runner, get_backend(name).load(other) as plain:
            wanted = plain.run(normalise(PIXELS, spec.preprocess))
            assert np.array_equal(runner.run(normalise(PIXELS, spec.preprocess)), wanted)
            assert np.array_equal(runner.run(PIXELS), wanted)
            assert np.array_equal(plain.run(PIXELS), wanted)
            own = PIXELS[:, :: -1 if spec.preprocess.channels == "BGR" else 1].transpose(0, 2, 3, 1)
            assert np.array_equal(runner.run(np.ascontiguousarray(own)), wanted)
            runner.prepare(PIXELS)
            runner.step()
            np.testing.assert_allclose(runner.fetch(), wanted, rtol=1e-5, atol=1e-5)

    def test_the_file_itself_reads_the_image_as_it_was_decoded(self, folders, name: str) -> None:
        artifact = load_artifact(folders[name][0])
        golden = artifact.golden()
        decoded = dataclasses.replace(artifact.manifest.spec.preprocess, channels="RGB")
        raw = np.stack([to_pixels(image, decoded).transpose(1, 2, 0) for image in golden.images])
        if name == "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(artifact.model_path, providers=["CPUExecutionProvider"])
            kept = session.get_modelmeta().custom_metadata_map
            assert kept["zoo.outside"] == "; ".join(steps_outside(artifact.manifest.spec.preprocess))
            got = session.run(None, {"images": raw})[0]
        else:
            import torch

            with torch.inference_mode():
                got = torch.jit.load(artifact.model_path)(torch.from_numpy(raw)).numpy()
        np.testing.assert_allclose(got, golden.logits, rtol=1e-4, atol=1e-4)

    def test_what_is_no_image_is_refused(self, folders, name: str) -> None:
        noise = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
        with get_backend(name).load(folders[name][0]) as runner:
            with pytest.raises(UsageError, match="no image's pixels"):
                runner.run(noise)
            with pytest.raises(UsageError, match=r"got shape \(1, 4, 32, 32\)"):
                runner.run(np.zeros((1, 4, 32, 32), np.uint8))

    @pytest.mark.parametrize("wrong", [(np.float32, 32, 3), (np.uint8, 31, 3), (np.uint8, 32, 4)])
    def test_the_file_itself_refuses_what_is_no_image(self, folders, name: str, wrong: tuple[type, int, int]) -> None:
        """Loaded without zoo: a float image would be scaled twice and answered in silence."""
        kind, side, depth = wrong
        path, images = load_artifact(folders[name][0]).model_path, np.zeros((1, 32, side, depth), kind)
        if name == "onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            with pytest.raises(
                Exception, match=r"expected: \(tensor\(uint8\)\)|Got invalid dimensions for input: images"
            ):
                session.run(None, {"images": images})
        else:
            import torch

            told = rf"images must be uint8 N x 32 x 32 x 3, got \[1, 32, {side}, {depth}\]"
            told += "" if kind is np.uint8 else ", and not uint8"
            with pytest.raises(torch.jit.Error, match=told):
                torch.jit.load(path)(torch.from_numpy(images))

    def test_it_is_checked_from_raw_images_on(self, folders, name: str, few_digits) -> None:
        (row,) = check(folders[name][0], few_digits)
        assert {gate.name: gate.verdict for gate in row.gates}["numerics"] == "pass", row
        assert row.exit_code == 0, row

    def test_a_manifest_that_lies_about_it_is_found(self, folders, name: str, tmp_path: Path) -> None:
        import shutil

        folder = Path(shutil.copytree(folders[name][0], tmp_path / "lies"))
        reseal(folder, pixels=False)
        (row,) = check(folder)
        assert row.exit_code in (4, 5), row


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_other_precisions(tmp_path: Path, precision: str) -> None:
    (row,) = export(tiny_model(), "torchscript", dataclasses.replace(WITH, precision=precision), out=tmp_path)
    assert row.golden is not None
    assert row.golden.verdict == "pass", row.golden


def test_the_layer_that_diverges_is_found_behind_it(tmp_path: Path) -> None:
    model = tiny_model()
    folder = export(model, "onnx", WITH, out=tmp_path)[0].folder
    graph = onnx.load(folder / "model.onnx")
    convolution = [node for node in graph.graph.node if node.op_type == "Conv"][5]
    (weight,) = [one for one in graph.graph.initializer if one.name == convolution.input[1]]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.2), weight.name))
    onnx.save(graph, folder / "model.onnx")
    found = bisect_artifact(load_artifact_unsealed(folder), model.module, normalise(PIXELS, model.spec.preprocess))
    assert isinstance(found, Finding), found
    assert found.layer == convolution.name


def load_artifact_unsealed(folder: Path):
    reseal(folder)
    return load_artifact(folder)


def test_grey_models() -> None:
    from torch import nn
    from zoo.exporter.backends.eager.modules import FromPixels

    preprocess = Preprocess((6, 5), channels="L", mean=(0.3,), std=(0.2,))
    import torch

    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 6, 5), np.uint8)
    got = FromPixels(nn.Identity(), preprocess)(torch.from_numpy(pixels.transpose(0, 2, 3, 1).copy())).numpy()
    assert np.array_equal(got, normalise(pixels, preprocess))


def test_the_command_says_what_is_left_outside(tmp_path: Path) -> None:
    done = zoo("export", "mobilenet_v3_small", "--weights", "random", "--to", "onnx", "--with-preprocess", "--json",
               cwd=tmp_path)  # fmt: skip
    (row,) = as_json(done)["artifacts"]
    left = ("left outside: decode to RGB, resize the shorter side to 256 (bilinear, antialiased as Pillow does it), "
            "crop the centre 224 x 224")  # fmt: skip
    assert any(left in note for note in row["notes"]), row["notes"]
    assert json.loads((tmp_path / row["artifact"] / "artifact.json").read_text())["pixels"] is True
    done = zoo("export", "mobilenet_v3_small", "--weights", "random", "--to", "eager", "--with-preprocess", "--json",
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2, done
    assert "cannot preprocess in the graph" in done.stdout


def test_a_graph_without_the_input_is_refused() -> None:
    from zoo.exporter.backends.graph.pixels import read_pixels

    with pytest.raises(UsageError, match="no float32 `images`"):
        read_pixels(onnx.ModelProto(), tiny_model().spec)
