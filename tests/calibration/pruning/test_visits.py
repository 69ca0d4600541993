"""A search that does not end is stopped, and one that ends is left alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from zoo.calibration.pruning.visits import SearchError, Visits


def test_a_search_that_takes_too_long_is_stopped() -> None:
    step = SimpleNamespace(index_mapping=[None])
    node = SimpleNamespace(dependencies=[step])
    visits = Visits(SimpleNamespace(module2node={"a": node}), seconds=0.05)

    def groups(endless: bool):
        for name in ("first", "second"):
            while list(node.dependencies) == [step] and endless:
                pass
            yield name

    assert list(visits.of_each(groups(endless=False))) == ["first", "second"]
    with pytest.raises(SearchError, match=r"0.05 seconds did not find"):
        list(visits.of_each(groups(endless=True)))
    assert list(node.dependencies) == [step], "afterwards nothing is looked at"


def test_places_that_multiply_without_end_are_stopped() -> None:
    step = SimpleNamespace(index_mapping=[None, None])
    Visits(SimpleNamespace(module2node={"a": SimpleNamespace(dependencies=[step])}))
    step.index_mapping[0] = lambda places: places * 10
    first, second = step.index_mapping
    assert second is None
    places = [1]
    with pytest.raises(SearchError, match="more than 300,000 places"):
        for _ in range(9):
            places = first(places)
