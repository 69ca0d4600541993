"""What manifest.json says beside the hashes: all of it follows from the artifact.json files and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .container import FORMAT


def manifest_of(
    owns: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, str]], unchecked: Sequence[str], zoo: str
) -> dict[str, Any]:
    """Make the manifest, but for the hashes.

    Args:
        owns: artifact.json of each artifact, as plain values.
        verdicts: of each artifact's evidence; empty where it has none.
        unchecked: why an artifact has no evidence; "" where it has.
        zoo: the version that makes the package.
    """
    first = owns[0]
    return {
        "format": FORMAT,
        "name": first["spec"]["name"],
        "created": max(own["created"] for own in owns),
        "zoo": zoo,
        "meaningful": first["meaningful"],
        "weights": first["weights"],
        "weights_sha256": first["weights_sha256"],
        "spec": first["spec"],
        "artifacts": [_entry(own, found, why) for own, found, why in zip(owns, verdicts, unchecked, strict=True)],
    }


def name_of(own: Mapping[str, Any]) -> str:
    """Return what an artifact is called in a package, such as onnx-int8."""
    return f"{own['backend']}-{own['precision']}{'-pixels' if own.get('pixels', False) else ''}"


def _entry(own: Mapping[str, Any], verdicts: Mapping[str, str], unchecked: str) -> dict[str, Any]:
    name = name_of(own)
    engine = (own.get("options") or {}).get("engine")
    return {
        "name": name,
        "backend": own["backend"],
        "precision": own["precision"],
        "pixels": own.get("pixels", False),
        "model": f"artifacts/{name}/{own['model'] if own['built'] else 'model.onnx'}",
        "built": own["built"],
        "checked": bool(verdicts),
        "unchecked": unchecked,
        "verdicts": dict(verdicts),
        **({"engine": engine} if engine is not None else {}),
    }
