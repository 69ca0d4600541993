"""What is said of int8 that is not faster than float."""

from __future__ import annotations

from zoo.exporter.timed import slower_in_words


def test_slower_is_said_where_every_round_says_so_and_else_that_nobody_can_tell() -> None:
    assert slower_in_words(1.0, 1.2) == slower_in_words(1.4, 1.5) == ""
    assert slower_in_words(0.8, 0.9).startswith("int8 is slower than float on this CPU in every division")
    assert "cannot be told (0.86 times as fast, up to 1.46)" in slower_in_words(0.86, 1.46)
