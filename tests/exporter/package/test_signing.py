"""Signatures: every change of a signed package is refused with 5."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import as_json, zoo
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.package.pack import pack
from zoo.exporter.package.signing import sign, signature_path, verify_signature
from zoo.exporter.package.writer import write
from zoo.exporter.runtime.container import Package


def keys(folder: Path, name: str, key=None) -> tuple[Path, Path]:
    made = key or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def signed(exported: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    private, public = keys(tmp_path, "mine")
    path = pack([exported["onnx"]], tmp_path / "p.zoo").path
    assert sign(path, private) == signature_path(path)
    return path, public


def test_what_was_signed_is_found_signed_wherever_it_lies(signed: tuple[Path, Path], tmp_path: Path) -> None:
    path, public = signed
    assert "signed by the key of mine.pub" in verify_signature(path, public)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "q.zoo"
    shutil.copy(path, moved)
    shutil.copy(signature_path(path), signature_path(moved))
    verify_signature(moved, public)


def again(path: Path, change) -> None:
    """The package made again, canonical and with right hashes: only the signature can tell."""
    with Package(path) as package:
        files = {name: package.read(name) for name in package.names()}
        manifest = {key: value for key, value in package.manifest.items() if key != "files"}
    change(files, manifest)
    write(path, files, manifest)


@pytest.mark.parametrize(
    "change",
    [
        lambda files, _manifest: files.update({"LICENSE": b"mine now"}),
        lambda files, _manifest: files.update({"added.txt": b"x"}),
        lambda files, _manifest: files.pop("labels.txt"),
        lambda _files, manifest: manifest.update(name="other"),
    ],
)
def test_a_changed_added_or_removed_file_or_manifest(signed: tuple[Path, Path], change) -> None:
    path, public = signed
    again(path, change)
    with pytest.raises(IntegrityError, match="the package was changed since it was signed"):
        verify_signature(path, public)


def test_another_key_no_signature_and_no_key(signed: tuple[Path, Path], tmp_path: Path) -> None:
    path, public = signed
    private, other = keys(tmp_path, "other")
    with pytest.raises(IntegrityError, match=r"is no signature of .* by other.pub"):
        verify_signature(path, other)
    with pytest.raises(UsageError, match="holds a private key: keep it secret"):
        verify_signature(path, private)
    with pytest.raises(UsageError, match="no private key"):
        sign(path, public)
    with pytest.raises(UsageError, match="No such file"):
        verify_signature(path, tmp_path / "none")
    with pytest.raises(UsageError, match="none of an elliptic curve"):
        sign(path, keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))[0])
    signature_path(path).write_text("nonsense")
    with pytest.raises(IntegrityError, match="the file is no signature"):
        verify_signature(path, public)
    signature_path(path).write_text("{}")
    with pytest.raises(IntegrityError):
        verify_signature(path, public)
    signature_path(path).unlink()
    with pytest.raises(IntegrityError, match="is not signed"):
        verify_signature(path, public)


def test_the_commands(exported: dict[str, Path], tmp_path: Path) -> None:
    private, public = keys(tmp_path, "mine")
    done = zoo("package", exported["onnx"], "--out", "p.zoo", "--sign", private, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert as_json(done)["signature"] == "p.zoo.sig"
    done = zoo("package", exported["onnx"], "--out", "p.zoo", "--overwrite", cwd=tmp_path)
    assert done.returncode == 2, "the signature would be of another package"
    assert "p.zoo.sig is there, and would be of another package" in done.stderr
    done = zoo("verify", "p.zoo", "--key", public, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert as_json(done)["gates"][0]["name"] == "signature"
    again(tmp_path / "p.zoo", lambda files, _manifest: files.update({"extra/notes.png": b"mine now"}))
    assert zoo("verify", "p.zoo", cwd=tmp_path).returncode == 0, "its hashes are right: only the key can tell"
    done = zoo("verify", "p.zoo", "--key", public, "--json", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    done = zoo("package", exported["onnx"], "--out", "q.zoo", "--sign", tmp_path / "none", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "q.zoo").exists(), "said before anything is written"
    (tmp_path / "q.zoo.sig").write_text("mine")
    done = zoo("package", exported["onnx"], "--out", "q.zoo", "--sign", private, "--overwrite", cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "q.zoo.sig").read_text() == "mine"
    assert not (tmp_path / "q.zoo").exists()
