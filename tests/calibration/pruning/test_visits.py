"""A search that does not end is stopped, and one that ends is left alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from zoo.calibration.pruning.visits import SearchError, Visits


def test_a_search_that_takes_too_long_is_stopped() -> None:
    node = SimpleNamespace(dependencies=["next"])
    visits = Visits(SimpleNamespace(module2node={"a": node}), seconds=0.05)

    def groups(endless: bool):
        for name in ("first", "second"):
            while list(node.dependencies) == ["next"] and endless:
                pass
            yield name

    assert list(visits.of_each(groups(endless=False))) == ["first", "second"]
    with pytest.raises(SearchError, match=r"0.05 seconds did not find"):
        list(visits.of_each(groups(endless=True)))
    assert list(node.dependencies) == ["next"], "afterwards nothing is looked at"
