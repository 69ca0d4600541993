from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.artifact.folder import load_artifact, may_replace


@pytest.fixture
def folder(exported: dict[str, Path]) -> Path:
    return exported["torchscript"]


def test_it_has_what_a_check_needs(folder: Path) -> None:
    artifact = load_artifact(folder)
    manifest = artifact.manifest
    assert set(manifest.files) >= {"model.pt", "weights.safetensors", "golden/0.png", "golden/logits.json"}
    assert len(artifact.golden().images) == 8
    assert manifest.reached is not None
    assert manifest.receipt is not None
    assert manifest.receipt.layers == {"fp32": 21}
    assert manifest.spec.labels == tuple("0123456789")


def test_every_byte_counts(folder: Path) -> None:
    for name in load_artifact(folder).manifest.files:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IntegrityError, match=f"{name} was changed"):
            load_artifact(folder)
        (folder / name).write_bytes(whole)
    load_artifact(folder)


def test_missing_and_added_files(folder: Path) -> None:
    (folder / "golden" / "0.png").unlink()
    (folder / "extra").write_text("x")
    with pytest.raises(IntegrityError, match=r"golden/0\.png is missing, extra is not listed"):
        load_artifact(folder)


def test_a_link_in_place_of_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "model.pt").rename(tmp_path / "elsewhere")
    (folder / "model.pt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"model\.pt is missing"):
        load_artifact(folder)


def edited(folder: Path, **changes: object) -> None:
    data = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(data | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "../model.pt"}, "cannot have"),
        ({"files": {"../x": {"sha256": "", "bytes": 1}, "model.pt": {"sha256": "", "bytes": 1}}}, "cannot have"),
        ({"format": 99}, "format 99"),
        ({"precision": "fp8"}, "precision"),
        ({"speed": 3}, "unknown key"),
        ({"spec": 3}, "spec"),
    ],
)
def test_a_manifest_that_lies_is_refused(folder: Path, changes: dict, words: str) -> None:
    edited(folder, **changes)
    with pytest.raises(IntegrityError, match=words):
        load_artifact(folder)


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such artifact"):
        load_artifact(tmp_path / "none")
    with pytest.raises(UsageError, match="is no artifact"):
        load_artifact(tmp_path)
    (tmp_path / "artifact.json").write_text('{"half":')
    with pytest.raises(IntegrityError, match="corrupt"):
        load_artifact(tmp_path)


def test_only_artifacts_may_be_replaced(folder: Path, tmp_path: Path) -> None:
    may_replace(folder)
    may_replace(tmp_path / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    for name in ("mine", "mine/thesis", "link"):
        with pytest.raises(UsageError, match=name):
            may_replace(tmp_path / name)


def test_files_that_are_not_the_artifacts_are_not_deleted(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not the artifact's: notes\.txt"):
        may_replace(folder)
    (folder / "notes.txt").unlink()
    (folder / "artifact.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="holds no artifact"):
        may_replace(folder)
