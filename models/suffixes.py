"""Suffixes of the files that people give to zoo; nothing is imported to know them."""

from __future__ import annotations

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")  # of a model's weights
