"""Who made a package: a detached signature beside it, by the model-signing package with keys that lie on disk.

The signature is a Sigstore bundle (OpenSSF Model Signing 1.0) of the whole file, so a swapped manifest is seen too;
no transparency log and no network are asked.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ...atomic import beside, put_in_place
from ...errors import IntegrityError, UnavailableError, UsageError, one_line


def signature_path(package: Path) -> Path:
    """Where the signature of a package lies."""
    return package.with_name(f"{package.name}.sig")


def sign(package: Path, key: Path) -> Path:
    """Sign a package with an elliptic-curve private key in PEM; where the signature lies.

    An older signature there is replaced: it is of another package.

    Raises:
        UsageError: no such key, or one that cannot sign.
        UnavailableError: model-signing is missing.
    """
    signing = _module("signing")
    read_key(key, private=True)
    try:
        with beside(signature_path(package)) as made:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(package, made)
            put_in_place(made, signature_path(package))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key} cannot sign: {one_line(error)}", fix=MAKE) from error
    except OSError as error:
        raise UsageError(f"{signature_path(package)} cannot be written: {error.strerror or error}") from error
    return signature_path(package)


def refuse_signature_place(package: Path, *, overwrite: bool) -> None:
    """Raise UsageError where something else than an older signature lies in a signature's place."""
    place = signature_path(package)
    if not place.exists() and not place.is_symlink():
        return
    try:
        ours = place.is_file() and not place.is_symlink() and b"dsseEnvelope" in place.read_bytes()[: 1 << 20]
    except OSError:
        ours = False
    if not ours:
        raise UsageError(f"{place} is in the way and no signature", fix="give another --out")
    if not overwrite:
        raise UsageError(f"{place} is there", fix="give --overwrite, or another --out")


def refuse_stale_signature(package: Path) -> None:
    """Raise UsageError where a signature lies that would be of another package than the one to be written."""
    place = signature_path(package)
    if place.exists():
        raise UsageError(
            f"{place} is there, and would be of another package",
            fix="--sign KEY makes a new one, else remove it, or give another --out",
        )


GET = "get the public key from who made the package, by another way than the package"
MAKE = "openssl ecparam -name prime256v1 -genkey -noout -out new.pem; openssl ec -in new.pem -pubout -out new.pub"


def verify_signature(package: Path, key: Path, copy: Path | None = None) -> str:
    """Verify the signature beside a package with a public key; what was found, in words.

    Args:
        package: its file, beside which the signature lies.
        key: a public key.
        copy: a private one of the package, which is read in its place.

    Raises:
        UsageError: no such key, or not a public one.
        IntegrityError: no signature, one of another key, or of another file.
        UnavailableError: model-signing is missing.
    """
    verifying = _module("verifying")
    read_key(key, private=False)
    place = signature_path(package)
    if not place.is_file():
        raise IntegrityError(f"{package} is not signed: there is no {place.name}", fix="get it from who made it")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(copy or package, place)
    except Exception as error:  # one class per step of four libraries
        raise IntegrityError(
            f"{place.name} is no signature of {package.name} by {key.name}: {_why(error)}",
            fix="do not use this package",
        ) from error
    return f"signed by the key of {key.name}"


def read_key(path: Path, *, private: bool) -> None:
    """Raise UsageError for a file that holds no such key."""
    fix = f"a new pair: {MAKE}" if private else GET
    _module("signing")  # brings cryptography
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    kind = "private" if private else "public"
    content = b""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file", fix=fix)
        content = path.read_bytes()
        key = load_pem_private_key(content, None) if private else load_pem_public_key(content)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix=fix) from error
    except (ValueError, TypeError) as error:
        if b"PRIVATE KEY" in content and not private:
            raise UsageError(f"{path} holds a private key: keep it secret, and give the public one") from error
        raise UsageError(f"{path} holds no {kind} key in PEM without a password", fix=fix) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey if private else ec.EllipticCurvePublicKey):
        raise UsageError(f"{path} holds a {kind} key, but none of an elliptic curve", fix=fix)


def _why(error: Exception) -> str:
    """What a refused signature means, in words; the library shows digests as Python does."""
    words = one_line(error)
    if "ismatch" in words:
        return "the package was changed since it was signed"
    if isinstance(error, ValueError) and "Expecting value" in words:
        return "the file is no signature"
    return words[:120]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"model_signing.{name}")
    except ImportError as error:
        raise UnavailableError(
            f"signatures need model-signing, and {error.name} is not here", fix='pip install "zoo-export[sign]"'
        ) from error
