"""A limit on torch-pruning's search for what is coupled: in some networks, such as swin_t, it would not end.

It follows every path on which the numbers of channels differ. Where reshapes, rolls and concatenations follow each
other the paths multiply, and with them time and memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

SECONDS = 30.0  # of computing for one group; in densenet121, the slowest of ordinary networks, a group takes one


LONGEST = 300_000  # places of one channel group; flattened features of large images have up to 130,000


class SearchError(Exception):
    """The search for one group has taken longer than any ordinary network needs."""


class Visits:
    """Looks at the time at each visit to an operation of a graph, while groups are searched for.

    Args:
        graph: a DependencyGraph of torch-pruning that was built.
        seconds: of computing for each group.
    """

    def __init__(self, graph: Any, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._until: float | None = None
        for node in graph.module2node.values():
            node.dependencies = _Watched(node.dependencies, self)
            for dependency in node.dependencies:
                dependency.index_mapping = _Mappings(dependency.index_mapping)

    def look(self) -> None:
        """Raise SearchError where the search for this group has taken too long."""
        if self._until is not None and time.thread_time() > self._until:
            raise SearchError(f"{self._seconds:g} seconds did not find all channels that go together")

    def of_each(self, groups: Iterable[Any]) -> Iterator[Any]:
        """Yield groups as they are found, each within the time."""
        try:
            self._until = time.thread_time() + self._seconds
            for group in groups:
                yield group
                self._until = time.thread_time() + self._seconds
        finally:
            self._until = None


class _Watched(list[Any]):
    """The dependencies of an operation, which have the time looked at whenever they are gone through."""

    def __init__(self, values: Iterable[Any], visits: Visits) -> None:
        super().__init__(values)
        self._visits = visits

    def __iter__(self) -> Iterator[Any]:
        self._visits.look()
        return super().__iter__()


class _Mappings(list[Any]):
    """How places are carried over to the next operation: not where they have become more than any network has."""

    def __iter__(self) -> Iterator[Any]:
        return (mapping and _bounded(mapping) for mapping in super().__iter__())


def _bounded(mapping: Callable[[list[Any]], list[Any]]) -> Callable[[list[Any]], list[Any]]:
    def carried(places: list[Any]) -> list[Any]:
        if len(places) > LONGEST:
            raise SearchError(f"one group would have more than {LONGEST:,} places")
        return mapping(places)

    return carried
