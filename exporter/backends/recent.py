"""What was rendered last: a candidate is judged, timed and exported without being rendered for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...calibration.choice import Calibrated, Choice


class Recent:
    """Renderings of one calibration by choice, the latest few; those of another calibration are forgotten.

    Args:
        render: a calibration and a choice to whatever a backend makes of them; nobody changes the result.
        size: how many are kept.
    """

    def __init__(self, render: Callable[[Calibrated, Choice], Any], size: int = 2) -> None:
        self._render, self._size = render, size
        self._of: Calibrated | None = None
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, calibrated: Calibrated, choice: Choice) -> Any:
        """The rendering, made where it is not kept."""
        if self._of is not calibrated:
            self._of = calibrated
            self._kept.clear()
        key = repr((replace(choice, keep={}), sorted(choice.keep)))  # not why layers stay float
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._render(calibrated, choice)
        self._kept[key] = made
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return made
