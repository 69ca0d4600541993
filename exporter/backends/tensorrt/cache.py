"""Timing caches of this user's builds, one for each TensorRT version and GPU."""

from __future__ import annotations

import re
from pathlib import Path

from .... import atomic
from ....config import cache_folder
from ...artifact.manifest import Platform


def cache_path(here: Platform) -> Path:
    """Under ZOO_CACHE, else XDG_CACHE_HOME/zoo, else ~/.cache/zoo."""
    name = re.sub(r"[^\w.-]+", "-", f"{here.runtime}-{here.gpu}-{here.compute_capability}")
    return cache_folder() / "tensorrt" / f"{name}.timing"


def read_cache(here: Platform) -> bytes:
    """What earlier builds measured on such a machine; nothing when there were none, or it cannot be read."""
    try:
        return cache_path(here).read_bytes()
    except OSError:
        return b""


def write_cache(here: Platform, content: bytes) -> str:
    """Keep it for the next build; what went wrong, or nothing: a build does not fail for want of a cache."""
    try:
        path = cache_path(here)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(path, content)
    except OSError as error:
        return f"the timing cache could not be kept ({error}); set ZOO_CACHE to a folder that can be written"
    return ""
