"""`zoo doctor`: what works on this machine, what does not, and how to get it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...models.processors import cpus
from .main import Debug, Device, Json, Outcome, Seed

PACKAGES = {
    "torch": "full",
    "torchvision": "full",
    "onnxscript": "full",
    "scikit-learn": "full",
    "matplotlib": "full",
    "timm": "timm",
    "torchao": "qat",
}


def doctor(device: Device = "auto", seed: Seed = 0, debug: Debug = False, json: Json = False) -> Outcome:
    """Show what works on this machine, what does not, and how to get it."""
    del device, seed, debug, json
    rows = [_python(), _cpu(), _gpu(), *_packages(), *_backends(), *_data()]

    def show() -> None:
        from ..report.console import table

        cells = [[row["what"], "pass" if row["works"] else "skipped", row["detail"], row["remedy"]] for row in rows]
        shown = [[a, {"pass": "yes", "skipped": "no"}[b], c, d] for a, b, c, d in cells]
        table("this machine", ["what", "works", "detail", "how to get it"], shown)

    return Outcome({"machine": rows}, show=show, next="make demo, or zoo train resnet18 --data digits")


def _entry(what: str, works: bool, detail: str, remedy: str = "") -> dict[str, Any]:
    return {"what": what, "works": works, "detail": detail, "remedy": remedy}


def _python() -> dict[str, Any]:
    try:
        own = version("zoo-export")
    except PackageNotFoundError:
        own = "not installed"
    return _entry("zoo", True, f"{own}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")


def _cpu() -> dict[str, Any]:
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "bf16")
    flags: set[str] = set()
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a pseudo file
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    flags = set(value.split())
                if key.strip() == "model name":
                    name = value.strip()
    except OSError:
        pass
    return _entry("cpu", True, f"{name}, {cpus()} cores, {' '.join(flag for flag in wanted if flag in flags)}")


def _gpu() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return _entry("gpu", False, "torch is not installed", 'pip install "zoo-export[full]"')
    if not torch.cuda.is_available():
        return _entry("gpu", False, "torch sees no CUDA device", "an NVIDIA GPU with a driver for this torch's CUDA")
    major, minor = torch.cuda.get_device_capability()
    return _entry("gpu", True, f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}")


def _packages() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, extra in PACKAGES.items():
        try:
            rows.append(_entry(name, True, version(name)))
        except PackageNotFoundError:
            rows.append(_entry(name, False, "not installed", f'pip install "zoo-export[{extra}]"'))
    return rows


def _backends() -> list[dict[str, Any]]:
    from ..backends.infos import backend_names
    from ..backends.options import Unavailable
    from ..backends.registry import get_backend

    rows: list[dict[str, Any]] = []
    for name in backend_names():
        here = get_backend(name).available()
        if isinstance(here, Unavailable):
            rows.append(_entry(f"backend {name}", False, here.reason, here.remedy))
        else:
            rows.append(_entry(f"backend {name}", True, f"{here.version} on {', '.join(here.devices)}"))
    return rows


def _data() -> list[dict[str, Any]]:
    from ...models.data.catalog import find_local

    rows: list[dict[str, Any]] = []
    for name, place in find_local().items():
        remedy = (
            "apt install dataset-fashion-mnist" if name == "fashion-mnist" else "--data-root FOLDER, or set ZOO_DATA"
        )
        rows.append(_entry(f"data {name}", place is not None, str(place or "not found"), "" if place else remedy))
    return rows
