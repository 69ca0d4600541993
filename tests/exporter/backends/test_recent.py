"""A candidate is rendered once for being judged, timed and exported."""

from __future__ import annotations

from typing import Any

from zoo.calibration.choice import Choice
from zoo.exporter.backends.recent import Recent


def test_the_latest_choices_are_kept_and_another_calibration_forgets_them() -> None:
    made: list[tuple[Any, Choice]] = []

    def render(calibrated: Any, choice: Choice) -> object:
        made.append((calibrated, choice))
        return object()

    recent, one, other = Recent(render, size=2), object(), object()
    first = recent(one, Choice())
    assert recent(one, Choice()) is first
    kept = recent(one, Choice(keep={"a": "measured", "b": "asked for"}))
    assert recent(one, Choice(keep={"b": "", "a": ""})) is kept, "why a layer stays float changes no rendering"
    assert recent(one, Choice(keep={"a": ""})) is not kept
    assert recent(one, Choice()) is not first, "the third pushed it out"
    assert len(made) == 4
    assert recent(other, Choice()) is not recent(one, Choice())
    assert recent(one, Choice("mse")) is not recent(one, Choice(weight_bits=7))
