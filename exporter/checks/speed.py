"""The gate latency of several artifacts: which reference each is held to, measured one artifact after the other."""

from __future__ import annotations
