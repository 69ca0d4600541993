"""The software bill of materials of a package, in CycloneDX 1.6: the model, what made it, and what runs it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import UnavailableError
from ..backends.infos import known_info

if TYPE_CHECKING:
    from ..artifact.manifest import Manifest

RUNS = {"numpy": "runs it", "pillow": "decodes images"}


def sbom_of(manifest: Mapping[str, Any], first: Manifest) -> str:
    """JSON that CycloneDX's own schema accepts.

    Args:
        manifest: of the package.
        first: of an artifact, for what made it.

    Raises:
        UnavailableError: cyclonedx-python-lib is missing.
    """
    try:
        # as Any: its classes are decorated in a way that no type checker follows
        base: Any = importlib.import_module("cyclonedx.model")
        component: Any = importlib.import_module("cyclonedx.model.component")
        output: Any = importlib.import_module("cyclonedx.output")
        schema: Any = importlib.import_module("cyclonedx.schema")
        bom: Any = importlib.import_module("cyclonedx.model.bom").Bom()
        from packageurl import PackageURL
    except ImportError as error:
        raise UnavailableError(
            f"a package needs an SBOM, and {error.name} is not here", fix='pip install "zoo-export[package]"'
        ) from error
    kinds = component.ComponentType

    def library(name: str, version: str | None, why: str) -> Any:
        purl = PackageURL("pypi", None, name, version)
        return component.Component(
            name=name, version=version, type=kinds.LIBRARY, purl=purl, description=why, bom_ref=f"{why}:{purl}"
        )

    model = component.Component(
        name=str(manifest["name"]), version=str(manifest["created"])[:10], bom_ref="model",
        type=kinds.MACHINE_LEARNING_MODEL, description=str(manifest["weights"]),
        hashes=[base.HashType(alg=base.HashAlgorithm.SHA_256, content=str(manifest["weights_sha256"]))],
    )  # fmt: skip
    bom.metadata.component = model
    needs = [library(name, None, why) for name, why in RUNS.items()]
    backends = sorted({str(one["backend"]) for one in manifest["artifacts"]})
    infos = [info for name in backends if (info := known_info(name)) is not None and info.wheels]
    needs += [library(info.wheels[0], None, f"runs {info.name}") for info in infos]
    made = [library(name, version, "made it") for name, version in first.tools.items() if name != "python"]
    made.append(library("zoo-export", str(manifest["zoo"]), "made it"))
    for one in (*needs, *made):
        bom.components.add(one)
    bom.register_dependency(model, needs)
    text = output.make_outputter(bom, schema.OutputFormat.JSON, schema.SchemaVersion.V1_6).output_as_string()
    data = json.loads(text)
    data.pop("serialNumber", None)  # random, and the time of writing: the same artifacts make the same package
    data["metadata"].pop("timestamp", None)
    return json.dumps(data, indent=1, sort_keys=True)
