"""What this machine offers TensorRT: found out in a thin shell, judged in a pure function."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.util
import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ..options import Unavailable
from .log import Log

OLDEST, NEWEST = (10, 3), 11  # from this version to this major
LATER = "or export with --build-later here and run zoo build FOLDER on the GPU machine (docs/tensorrt.md)"
DRIVERS = {13: "580", 12: "525"}  # the oldest driver branch of each CUDA major
JETSON = Path("/etc/nv_tegra_release")
DIST_PACKAGES = "/usr/lib/python3*/dist-packages/tensorrt*/__init__.py"


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes:
        imported: whether `import tensorrt` gave a module.
        import_error: what it said otherwise.
        version: of the module, "" when it has none.
        place: the module's folder.
        builder: whether it has a Builder, which the stub package for type checkers has not.
        cuda: the CUDA major of the installed wheel; None for a system package.
        driver_cuda: the newest CUDA the driver knows, as 13000; 0 for no driver.
        driver: the driver's version.
        jetson: whether this is a Jetson.
        jetpack: where JetPack's own tensorrt lies, "" if nowhere.
        created: whether a runtime could be made.
        log: TensorRT's words when it could not.
    """

    imported: bool = False
    import_error: str = ""
    version: str = ""
    place: str = ""
    builder: bool = False
    cuda: int | None = None
    driver_cuda: int = 0
    driver: str = ""
    jetson: bool = False
    jetpack: str = ""
    created: bool = False
    log: str = ""


def diagnose(facts: Facts) -> Unavailable | None:
    """Why TensorRT cannot be used with what was found, and what to do; None when it can."""
    if not facts.imported:
        if facts.import_error:
            return Unavailable(
                f"tensorrt is installed at {facts.place or 'an unknown place'} but cannot be imported "
                f"({facts.import_error})",
                "install the libraries it names (on a Jetson, run with JetPack's full container or packages)",
            )
        return Unavailable(
            "TensorRT is not installed on this machine",
            "on a Jetson use JetPack's own, in an environment made with --system-site-packages; on another machine "
            f'with an NVIDIA GPU pip install "zoo-export[trt]"; {LATER}',
        )
    if not facts.builder:
        return Unavailable(
            f"the tensorrt at {facts.place} is only stubs for type checkers, it has no Builder",
            f"pip uninstall tensorrt-stubs, then pip install tensorrt, {LATER}",
        )
    number = tuple(map(int, re.findall(r"\d+", facts.version)[:2])) or (0, 0)
    if number < OLDEST or number[0] > NEWEST:
        return Unavailable(
            f"TensorRT {facts.version} is not one that zoo knows: 10.3 to {NEWEST}.x",
            f'pip install "tensorrt>=10.3,<{NEWEST + 1}"' if number < OLDEST else "update zoo",
        )
    return None if facts.created else _no_runtime(facts)


def _no_runtime(facts: Facts) -> Unavailable:
    """Why TensorRT could not make a runtime; CUDA gives error 35 for no driver and for one that is too old alike."""
    code = re.search(r"failure with error:? (\d+)", facts.log)
    said = f" (CUDA error {code.group(1)})" if code else f" ({facts.log})" if facts.log else ""
    here = f"TensorRT {facts.version}"
    if facts.jetson and facts.jetpack and not facts.place.startswith(str(Path(facts.jetpack).parent)):
        return Unavailable(
            f"{here} at {facts.place} shadows JetPack's own at {facts.jetpack}, and cannot use this driver{said}",
            "pip uninstall tensorrt tensorrt_cu12 tensorrt_cu13, in an environment made with --system-site-packages",
        )
    if not facts.driver_cuda:
        return Unavailable(
            f"{here} is installed, but this machine has no NVIDIA driver{said}",
            f"use a machine with an NVIDIA GPU (in a container: --gpus all), {LATER}",
        )
    major = facts.driver_cuda // 1000
    if facts.cuda is not None and major < facts.cuda:
        return Unavailable(
            f"{here} is built for CUDA {facts.cuda}, the driver {facts.driver} only knows CUDA "
            f"{major}.{facts.driver_cuda % 1000 // 10}{said}",
            f"update the driver to {DRIVERS.get(facts.cuda, 'a newer one')} or later, "
            f"or pip install tensorrt-cu{major} instead",
        )
    if code and code.group(1) == "100":
        return Unavailable(
            f"{here}: the driver {facts.driver} sees no GPU{said}",
            "check nvidia-smi and CUDA_VISIBLE_DEVICES; in a container: --gpus all",
        )
    return Unavailable(f"{here} cannot start on driver {facts.driver}{said}", "check nvidia-smi and the CUDA version")


def look() -> tuple[Any, Facts]:
    """Import TensorRT, try to make a runtime with it, and say what was found; never raises."""
    jetpack = next((str(path.parent) for path in sorted(Path("/").glob(DIST_PACKAGES.lstrip("/")))), "")
    common: dict[str, Any] = {
        "driver_cuda": driver_cuda(),
        "driver": driver_version(),
        "jetson": JETSON.exists(),
        "jetpack": jetpack,
    }
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        reason = "" if error.name == "tensorrt" else str(error)
        return None, Facts(import_error=reason, **common)
    except (ImportError, OSError) as error:  # a library that it links to is missing
        place = importlib.util.find_spec("tensorrt")
        return None, Facts(import_error=str(error), place=str(place.origin if place else ""), **common)
    place = getattr(trt, "__file__", None) or next(iter(getattr(trt, "__path__", [])), "")
    common |= {"imported": True, "place": str(place), "version": str(getattr(trt, "__version__", ""))}
    if not hasattr(trt, "Builder"):
        return None, Facts(**common)
    log = Log(trt)
    try:
        made = trt.Runtime(log.logger)
        created = made is not None
        del made
    except TypeError:  # pybind11's "factory function returned nullptr"; the reason is only in the log
        created = False
    return trt, Facts(builder=True, cuda=wheel_cuda(), created=created, log="" if created else log.why(), **common)


def wheel_cuda() -> int | None:
    """The CUDA major of the installed wheel, from the name of its distribution (tensorrt_cu13)."""
    for one in distributions():
        found = re.fullmatch(r"tensorrt[-_]cu(\d+)(?:[-_](?:bindings|libs))?", one.metadata["Name"] or "")
        if found:
            return int(found.group(1))
    return None


def driver_cuda() -> int:
    """The newest CUDA that the driver knows, such as 13000; 0 where there is no driver."""
    name = ctypes.util.find_library("cuda") or "libcuda.so.1"
    number = ctypes.c_int(0)
    try:
        return number.value if ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(number)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def driver_version() -> str:
    """Of the kernel module, such as 580.95.05; "" where it cannot be told."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    return found.group(1) if found else ""


def system() -> str:
    """Operating system and architecture, such as Linux x86_64."""
    return f"{platform.system()} {platform.machine()}" if sys.platform != "win32" else f"Windows {platform.machine()}"
