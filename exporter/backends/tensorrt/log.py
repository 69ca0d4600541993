"""TensorRT's logger: its bindings report failure by False, None or -1, and say why only there."""

from __future__ import annotations

import re
from typing import Any

from ....errors import UnavailableError, ZooError

KEPT = 50


class Log:
    """Keeps the last messages of warning level and above; made for one TensorRT module, whose class it extends.

    Attributes:
        logger: what TensorRT's constructors take.
        errors: error messages, oldest first.
        warnings: warning messages, oldest first.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        log = self
        severity = trt.ILogger.Severity

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)  # without it the bindings crash

            def log(self, severity: Any, msg: str) -> None:  # called from TensorRT's threads too
                log.add(severity, msg)

        self._serious = (severity.INTERNAL_ERROR, severity.ERROR)
        self._warning = severity.WARNING
        self.logger = Logger()

    def add(self, severity: Any, message: str) -> None:
        """Keep a message, without the place in TensorRT's source that it ends with."""
        kept = self.errors if severity in self._serious else self.warnings if severity == self._warning else None
        if kept is not None:
            kept.append(tidy(message))
            del kept[:-KEPT]

    def why(self) -> str:
        """The errors in one line, the last ones first, since the first ones are often consequences of a probe."""
        found = list(dict.fromkeys(reversed(self.errors))) or list(dict.fromkeys(reversed(self.warnings)))
        return "; ".join(found[:3])[:600] or "TensorRT's log says nothing"

    def check(self, value: Any, what: str, fix: str, kind: type[ZooError] = UnavailableError) -> Any:
        """The value, unless it is one of those that mean failure: None, False, -1.

        Raises:
            ZooError: of `kind`, with the log's own words.
        """
        if value is None or value is False or (isinstance(value, int) and value == -1):
            raise kind(f"TensorRT: {what}: {self.why()}", fix=fix)
        return value


def tidy(message: str) -> str:
    """One line without TensorRT's own source positions.

    >>> tidy("[runtime.cpp::deserialize::20] Error Code 1: Serialization (Version tag does not match. In f at a.cpp:3)")
    'Serialization (Version tag does not match.)'
    """
    line = " ".join(message.split())
    line = re.sub(r"^\[[^\]]*::\d+\] ", "", line)
    line = re.sub(r"^(IBuilder::|IRuntime::)?\w*:? ?Error Code \d+: ", "", line)
    return re.sub(r" In \S+(?: \S+)? at \S+:\d+", "", line)
