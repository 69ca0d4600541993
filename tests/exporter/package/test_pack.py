"""zoo package and zoo verify: what is in it, what is refused, and that mistakes and lies are found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import as_json, reseal, zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from zoo.errors import GateError, IntegrityError, UsageError
from zoo.exporter.artifact.folder import load_artifact, record
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.checks.evidence import evidence_of
from zoo.exporter.checks.mistakes import _bilinear, mistakes
from zoo.exporter.export import export
from zoo.exporter.package.pack import pack
from zoo.exporter.package.writer import write
from zoo.exporter.runtime.container import Package
from zoo.exporter.runtime.predictor import Predictor
from zoo.exporter.runtime.profile import profile
from zoo.exporter.runtime.verify import verify
from zoo.models.preprocess import prepare, to_pixels
from zoo.models.sources import resolve
from zoo.models.spec import Preprocess


@pytest.fixture(scope="module")
def packed(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "tiny.zoo"
    return pack([exported_folders["onnx"], exported_folders["torchscript"]], out).path


def changed(packed: Path, out: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> Path:
    """A package made again, canonical and with right hashes, of other files or another manifest."""
    with Package(packed) as package:
        files = {name: package.read(name) for name in package.names()}
        manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    change(files, manifest)
    write(out, dict(files), manifest)
    return out


def test_what_is_in_it(packed: Path) -> None:
    with Package(packed) as package:
        names = set(package.names())
        card = package.read("README.md").decode()
        sbom = json.loads(package.read("sbom.cdx.json"))
        labels = package.read("labels.txt").decode().splitlines()
        manifest = package.manifest
    assert {"__main__.py", "LICENSE", "README.md", "sbom.cdx.json", "preprocess.json", "labels.txt",
            "golden/logits.json", "golden/probes.json", "golden/probes/0.png",
            "artifacts/onnx-fp32/model.onnx", "artifacts/onnx-fp32/artifact.json",
            "artifacts/torchscript-fp32/model.pt"} <= names  # fmt: skip
    assert not any("weights.safetensors" in name for name in names), "the reference's weights stay at home"
    assert labels == list(manifest["spec"]["labels"])
    assert "**Not checked**" in card.splitlines()[2], "on its first page, before anything else"
    assert manifest["weights_sha256"] in card
    assert sbom["specVersion"] == "1.6"
    assert {one["name"] for one in sbom["components"]} >= {"onnxruntime", "numpy", "torch", "zoo-export"}
    assert all(one["sha256"] for one in manifest["files"].values())


def test_the_sbom_is_one_to_its_own_schema(packed: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    with Package(packed) as package:
        text = package.read("sbom.cdx.json").decode()
    try:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    except Exception as error:
        if type(error).__name__ != "MissingOptionalDependencyException":
            raise
        pytest.skip("the schema's validator is not installed")


def test_it_verifies_and_shows_what_mistakes_give(packed: Path) -> None:
    with Package(packed) as package:
        closed, found = verify(package), verify(package, allow_code=True)
    unopened = [gate for gate in closed.gates if gate.name == "samples torchscript-fp32"]
    assert unopened[0].verdict == "skipped"
    assert "is a program" in unopened[0].reason
    verdicts = {gate.name: gate.verdict for gate in found.gates}
    assert list(verdicts) == ["structure", "hashes", "check onnx-fp32", "samples onnx-fp32", "check torchscript-fp32",
                              "samples torchscript-fp32"]  # fmt: skip
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == {
        "check onnx-fp32", "check torchscript-fp32"}, "which nobody checked"  # fmt: skip
    assert any("not scaled" in one.mistake for one in found.skews)
    assert all(one.distance > 0 for one in found.skews)


def test_the_same_artifacts_make_the_same_package(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    one, other = (pack([exported_folders["onnx"]], tmp_path / name).path for name in ("1.zoo", "2.zoo"))
    assert one.read_bytes() == other.read_bytes()


Change = Callable[[dict[str, bytes], dict[str, Any]], None]


def lie(key: str, value: Any) -> Change:
    return lambda _files, manifest: manifest["artifacts"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lie("precision", "int8"), "lies about onnx-fp32: its precision"),
        (lie("backend", "torchscript"), "no TorchScript archive"),
        (lie("verdicts", {"accuracy": "pass"}), "its verdicts"),
        (lie("verdicts", "pass"), "its verdicts"),
        (lie("checked", True), "its checked"),
        (lie("unchecked", ""), "says that it was checked, and why"),
        (lie("model", "golden/logits.json"), "its model|is corrupt"),
        (lambda _files, manifest: manifest.update(weights_sha256="0" * 64), "its weights"),
        (lambda _files, manifest: manifest["spec"]["labels"].reverse(), "its spec"),
        (lambda _files, manifest: manifest["spec"]["preprocess"].update(scale=1.0), "its spec"),
        (lambda _files, manifest: manifest.pop("artifacts"), "no right artifacts"),
        (lambda _files, manifest: manifest.pop("meaningful"), "no right meaningful"),
        (lambda _files, manifest: manifest["spec"]["preprocess"].update(resize=0), "spec cannot be"),
        (lambda _files, manifest: manifest["spec"]["preprocess"].update(interpolation=["foo"]), "spec cannot be"),
        (lambda _files, manifest: manifest["spec"]["labels"].insert(0, "a\x1b[31m"), "spec cannot be"),
        (lambda files, _manifest: files.update({"labels.txt": b"a\n"}), "labels.txt and the artifacts"),
        (lambda files, _manifest: files.update({"preprocess.json": b"{}"}), "preprocess.json and the artifacts"),
        (lambda _files, manifest: manifest["artifacts"].append(manifest["artifacts"][0]), "is there twice"),
        (lie("precision", 8), "no right artifacts"),
        (lambda _files, manifest: manifest["spec"]["preprocess"].update(crop=[0, 0]), "spec cannot be"),
        (lambda files, _manifest: files.update({"golden/logits.json": b"{}"}), "logits.json is not the one"),
        (lambda files, _manifest: files.update({"golden/0.png": b"PNG"}), "0.png is not the one"),
        (lambda files, _manifest: files.update({"artifacts/onnx-fp32/model.onnx": b"\x08\x07"}), "model.onnx is not"),
        (lambda files, _manifest: files.update({"extra/weights.pkl": b"x"}), "is a pickle"),
        (lambda files, _manifest: files.pop("artifacts/onnx-fp32/artifact.json"), "holds no"),
    ],
)  # fmt: skip
def test_lies_are_refused_before_anything_runs(packed: Path, tmp_path: Path, change: Change, words: str) -> None:
    path = changed(packed, tmp_path / "lie.zoo", change)
    with pytest.raises(IntegrityError, match=words), Package(path) as package:
        verify(package)


def test_other_answers_than_the_sources_are_refused(packed: Path, tmp_path: Path) -> None:
    def shift(files: dict[str, bytes], _manifest: dict[str, Any]) -> None:
        logits = json.loads(files["golden/logits.json"])
        files["golden/logits.json"] = json.dumps({name: row[::-1] for name, row in logits.items()}).encode()

    path = changed(packed, tmp_path / "other.zoo", shift)
    with Package(path) as package, pytest.raises(IntegrityError, match=r"logits.json is not the one"):
        verify(package)


def test_only_forms_of_one_model_go_together(exported: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two of the artifacts are onnx-fp32"):
        pack([exported["onnx"], exported["onnx"]], tmp_path / "p.zoo")
    reseal(exported["torchscript"], weights_sha256="0" * 64)
    with pytest.raises(UsageError, match="have other weights"):
        pack([exported["onnx"], exported["torchscript"]], tmp_path / "p.zoo")
    assert not (tmp_path / "p.zoo").exists()
    (exported["onnx"] / "model.onnx").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match=r"model.onnx was changed"):
        pack([exported["onnx"]], tmp_path / "p.zoo")


def check_file(folder: Path, verdict: str = "pass", **more: Any) -> Path:
    place = folder.with_name(f"{folder.name}.check.json")
    gates = [{"name": name, "verdict": "pass", "reason": "so"} for name in ("numerics", "precision")]
    gates.append({"name": "accuracy", "verdict": verdict, "reason": "so"})
    seal = record(folder / "artifact.json").sha256
    kept = {"format": 1, "artifact_sha256": seal, "reference_sha256": "0" * 64, "backend": "onnx", "precision": "fp32",
            "data": None, "gates": gates, "created": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    place.write_text(json.dumps({**kept, **more}))
    return place


def test_evidence_goes_with_it_and_is_of_the_artifact_as_it_is(exported: dict[str, Path], tmp_path: Path) -> None:
    folder = exported["onnx"]
    assert evidence_of(load_artifact(folder)).reason == "not checked"
    with pytest.raises(GateError, match="not checked"):
        pack([folder], tmp_path / "p.zoo", require_checked=True)
    check_file(folder, "fail")
    with pytest.raises(GateError, match="did not pass its check: accuracy failed"):
        pack([folder], tmp_path / "p.zoo", require_checked=True)
    failed = pack([folder], tmp_path / "failed.zoo")
    assert failed.failed == {"onnx-fp32": "accuracy failed"}
    text = card(failed.path)
    assert "**Did not pass its check**: onnx-fp32: accuracy failed." in text
    assert "| onnx-fp32 | artifacts/onnx-fp32/model.onnx | accuracy failed |" in text, "the table says no 'yes'"
    assert "    - next: zoo export SOURCE --to onnx" in text
    check_file(folder)
    made = pack([folder], tmp_path / "p.zoo", require_checked=True)
    assert (made.checked, made.failed) == (("onnx-fp32",), {})
    assert "| onnx-fp32 | artifacts/onnx-fp32/model.onnx | passed |" in card(made.path)
    assert "Checked: no gate failed." in card(made.path)
    check_file(folder, artifact_sha256="0" * 64)
    assert "was replaced" in evidence_of(load_artifact(folder)).reason
    check_file(folder)
    statement = folder.with_name(f"{folder.name}.intoto.json")
    statement.write_text(
        json.dumps({"predicate": {"configuration": [{"name": "evidence", "digest": {"sha256": "0"}}]}})
    )
    assert "was changed since" in evidence_of(load_artifact(folder)).reason
    statement.unlink()
    check_file(folder).write_text("{")
    assert "no evidence" in evidence_of(load_artifact(folder)).reason
    skipped = [{"name": name, "verdict": "skipped", "reason": "so"} for name in ("numerics", "precision")]
    check_file(folder, gates=skipped)
    with pytest.raises(GateError, match="was not judged by its check: numerics and precision skipped"):
        pack([folder], tmp_path / "skipped.zoo", require_checked=True)


def card(path: Path) -> str:
    with Package(path) as package:
        return package.read("README.md").decode()


def test_a_users_file_is_never_replaced(exported: dict[str, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.zoo"
    mine.write_text("my thesis")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="no package of zoo"):
            pack([exported["onnx"]], mine, overwrite=overwrite)
    assert mine.read_text() == "my thesis"
    made = pack([exported["onnx"]], tmp_path / "p.zoo")
    with pytest.raises(UsageError, match="is there"):
        pack([exported["onnx"]], made.path)
    assert pack([exported["onnx"]], made.path, overwrite=True).replaced
    with pytest.raises(UsageError, match="no such folder"):
        pack([exported["onnx"]], tmp_path / "no" / "p.zoo")
    with pytest.raises(UsageError, match="cannot be read as text"):
        pack([exported["onnx"]], tmp_path / "q.zoo", licence=tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".part")) == []


def test_each_mistake_is_one(tmp_path: Path) -> None:
    """Against the mistake made by hand."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    preprocess = Preprocess(crop=(32, 32), resize=40)
    right = prepare([image], preprocess)
    found = mistakes([image], preprocess)
    pixels = right * np.array(preprocess.std, np.float32)[:, None, None] + np.array(
        preprocess.mean, np.float32)[:, None, None]  # fmt: skip
    np.testing.assert_allclose(found["not normalised: 0 to 1"], pixels, atol=1e-6)
    np.testing.assert_allclose(found["not scaled: 0 to 255"], pixels * 255, atol=1e-3)
    swapped = (pixels[:, ::-1] - np.array(preprocess.mean, np.float32)[:, None, None]) / np.array(
        preprocess.std, np.float32)[:, None, None]  # fmt: skip
    np.testing.assert_allclose(found["BGR in place of RGB"], swapped, atol=1e-5)
    np.testing.assert_array_equal(found["channels swapped after normalising"], right[:, ::-1])
    assert found["resized to the input's size, not cropped"].shape == right.shape
    grey = dataclasses.replace(preprocess, channels="L", mean=(0.5,), std=(0.5,))
    assert not any("RGB" in name for name in mistakes([image], grey))
    of_pixels = mistakes([image], preprocess, pixels=True)
    assert {str(one.dtype) for one in of_pixels.values()} == {"uint8"}
    assert np.array_equal(of_pixels["BGR in place of RGB"], to_pixels(image, preprocess)[None, ::-1])
    assert not any("normalis" in name or "scaled" in name for name in of_pixels), "the graph does those"


def test_a_package_of_a_model_that_normalises_by_itself(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    rows = export(resolve(str(trained_folder)), ["onnx", "torchscript"], ExportOptions(with_preprocess=True),
                  out=tmp_path, data=few_digits)  # fmt: skip
    path = pack([row.folder for row in rows], tmp_path / "tiny.zoo").path
    plain = export(resolve(str(trained_folder)), "onnx", out=tmp_path, data=few_digits)[0].folder
    both = pack([rows[0].folder, plain], tmp_path / "both.zoo").path
    with Package(path) as package, Package(both) as two:
        assert {one["name"] for one in two.manifest["artifacts"]} == {"onnx-fp32-pixels", "onnx-fp32"}
        assert "take uint8 N x 32 x 32 x 3 (RGB) and do the rest by themselves" in package.read("README.md").decode()
        found = verify(package, allow_code=True)
        assert {gate.verdict for gate in found.gates if not gate.name.startswith("check")} == {"pass"}
        assert found.skews, "no mistake was tried"
        assert not any("normalised" in skew.mistake for skew in found.skews)
        image = few_digits.val.image(0)
        answers = [Predictor(two, name).answers([image]) for name in ("onnx-fp32-pixels", "onnx-fp32")]
        assert answers[0] == answers[1]
        (row,) = profile(package).rows
        assert row.percentiles["p50"] > 0

    def lie(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest["artifacts"][0]["pixels"] = False

    lies = changed(path, tmp_path / "lies.zoo", lie)
    with Package(lies) as package, pytest.raises(IntegrityError, match="its pixels|its name"):
        verify(package)


def test_resizing_without_antialiasing_is_torchs() -> None:
    import torch

    pixels = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), (16, 20), mode="bilinear", align_corners=False
    )
    got = _bilinear(pixels, 16, 20).astype(np.float32)
    assert np.abs(got - wanted[0].permute(1, 2, 0).numpy()).max() <= 0.51, "rounded to whole pixels"


def test_the_commands(exported: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exported["onnx"], tmp_path / "artifact")
    done = zoo("package", "artifact", "--out", "p.zoo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert as_json(done)["notes"] == ["onnx-fp32: not checked"]
    done = zoo("verify", "p.zoo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = {gate["name"]: gate["verdict"] for gate in as_json(done)["gates"]}
    assert verdicts.pop("check onnx-fp32") == "skipped", "it was not checked"
    assert verdicts.pop("signature") == "skipped", "nobody signed it"
    assert set(verdicts.values()) == {"pass"}
    content = bytearray((tmp_path / "p.zoo").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "p.zoo").write_bytes(content)
    done = zoo("verify", "p.zoo", "--json", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert zoo("package", "artifact", "--out", "q.zoo", "--require-checked", cwd=tmp_path).returncode == 4
    assert zoo("verify", "none.zoo", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "q.zoo").exists()


def test_a_failed_check_is_said_wherever_the_package_goes(exported: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(exported["onnx"], tmp_path / "artifact")
    check_file(tmp_path / "artifact", "inconclusive")
    done = zoo("package", "artifact", "--out", "p.zoo", cwd=tmp_path)
    assert done.returncode == 0, "packaging it is allowed"
    assert "onnx-fp32 DID NOT PASS its check, and is packaged all the same: accuracy could not tell" in done.stderr
    assert "passed their check" not in done.stderr
    done = zoo("verify", "p.zoo", cwd=tmp_path)
    assert done.returncode == 0, "the package is what it says"
    assert "onnx-fp32 DID NOT PASS its check before it was packaged: accuracy could not tell" in done.stderr
    told = as_json(zoo("verify", "p.zoo", "--json", cwd=tmp_path))
    assert told["failed"] == {"onnx-fp32": "accuracy could not tell"}
    alone = subprocess.run(
        [sys.executable, "p.zoo", "verify"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "DID NOT PASS zoo check: accuracy could not tell" in alone.stdout


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_manifest_ends_in_a_traceback(packed: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Any value in place of any other in it, canonical and with right hashes."""

    def change(_files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        place: Any = manifest
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
                place[key] = data.draw(VALUES)
                return
            place = place[key]

    path = changed(packed, tmp_path / "odd.zoo", change)
    try:
        with Package(path) as package:
            assert verify(package, "onnx-fp32").gates
    except (IntegrityError, UsageError) as error:
        assert len(str(error).splitlines()) == 1, "a line, and nothing else is raised"


def test_graphs_that_take_something_else_are_an_integrity_error(packed: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    def graph(taken: str, given: str, rank: int) -> bytes:
        shape = ["n", 3, 32, 32][:rank]
        nodes = [helper.make_node("GlobalAveragePool" if rank == 4 else "Identity", [taken], [given])]
        made = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info(taken, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(given, TensorProto.FLOAT, None)],
        )  # fmt: skip
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()

    for name, content in (
        ("input", graph("x", "logits", 4)), ("output", graph("images", "foo", 4)),
        ("rank", graph("images", "logits", 3)), ("shape", graph("images", "logits", 4)),
    ):  # fmt: skip
        onnx.load_from_string(content)

        def swap(files: dict[str, bytes], _manifest: dict[str, Any], content: bytes = content) -> None:
            own = json.loads(files["artifacts/onnx-fp32/artifact.json"])
            files["artifacts/onnx-fp32/model.onnx"] = content
            own["files"]["model.onnx"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            files["artifacts/onnx-fp32/artifact.json"] = json.dumps(own).encode()

        path = changed(packed, tmp_path / f"{name}.zoo", swap)
        with pytest.raises(IntegrityError, match=r"fails on images|gave float32"), Package(path) as package:
            verify(package, "onnx-fp32")


def test_labels_that_look_like_markup_are_shown_as_they_are() -> None:
    from zoo.exporter.package.card import _labels

    assert _labels(["<b>x</b>", "a_b_c", "tabby, tabby cat"]) == (
        r"## Classes" + "\n\n" + r"\<b\>x\<\/b\>, a\_b\_c, tabby, tabby cat (labels.txt)"
    )


def test_evidence_among_the_artifacts_is_no_artifact(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    """`zoo package exports/resnet18/*`: a shell's star brings the evidence that lies beside."""
    folder = exported_folders["onnx"]
    beside = tmp_path / f"{folder.name}.check.json"
    beside.write_text("{}")
    done = zoo("package", folder, beside, "--out", "a.zoo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Package(tmp_path / "a.zoo") as package:
        assert [one["name"] for one in package.manifest["artifacts"]] == [folder.name]
