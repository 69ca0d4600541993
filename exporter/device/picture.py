"""Where the time goes: all of it, by operator, by node, each as wide as its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SMALLEST_NAMED = 0.02  # of the whole


def draw(operators: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Three rows of boxes, the widest first; names where they fit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds: dict[str, list[tuple[str, float]]] = {}
    for one in operators:
        kinds.setdefault(str(one["kind"]), []).append(
            (str(one.get("layer") or one["name"]), float(one["microseconds"]))
        )
    ordered = sorted(kinds.items(), key=lambda pair: -sum(time for _, time in pair[1]))
    total = sum(time for _, several in ordered for _, time in several) or 1.0
    figure, axes = plt.subplots(figsize=(14, 3.6), layout="constrained")
    colours = plt.get_cmap("tab20")

    def box(row: int, start: float, width: float, text: str, colour: Any) -> None:
        axes.barh(row, width, left=start, height=0.94, color=colour, edgecolor="white", linewidth=0.6)
        if width >= SMALLEST_NAMED * total:
            room = max(3, int(width / total * 150))
            axes.text(start + width / 2, row, text[:room], ha="center", va="center", fontsize=7, clip_on=True)

    box(2, 0, total, f"{title}, batch 1: {total / 1e3:.2f} ms in operators", "#d8dde3")
    at = 0.0
    for index, (kind, several) in enumerate(ordered):
        spent = sum(time for _, time in several)
        colour = colours(index % 20)
        box(1, at, spent, f"{kind} {spent / total:.0%}", colour)
        inner = at
        for name, time in sorted(several, key=lambda pair: -pair[1]):
            box(0, inner, time, name.rpartition("/")[2], (*colour[:3], 0.55))
            inner += time
        at += spent
    axes.set(xlim=(0, 1.01 * total), yticks=[0, 1, 2], xlabel="microseconds")
    axes.set_yticklabels(["nodes", "operators", "all"])
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
