from __future__ import annotations

import errno

import pytest
from zoo.errors import GateError, UnavailableError, UsageError, ZooError, quoted, unwritable, worst


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([0, 0], 0), ([0, 6], 6), ([6, 3], 3), ([3, 4, 6], 4), ([4, 5], 5), ([5, 2, 3], 2), ([1, 2], 1)],
)
def test_the_first_that_applies_of_1_2_5_4_3_6(codes: list[int], expected: int) -> None:
    assert worst(codes) == worst(reversed(codes)) == expected


def test_a_message_is_one_line_with_what_to_do() -> None:
    assert str(UsageError("no such thing", fix="make one")) == "no such thing; make one"
    assert str(UsageError('unknown "x", did you mean "y"?', fix="try")) == 'unknown "x", did you mean "y"? try'
    assert [kind.exit_code for kind in (UsageError, UnavailableError, GateError)] == [2, 3, 4]
    assert issubclass(UsageError, ZooError)


def test_what_the_system_refuses_names_the_place_and_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert str(unwritable(full, "exports/x")) == "exports/x: No space left on device; free space"
    assert str(unwritable(full)) == "No space left on device; free space"
    fixed = OSError(errno.EROFS, "Read-only file system", "disk/x")
    limited = OSError(errno.EFBIG, "File too large", "exports/x")
    assert str(unwritable(limited)) == "exports/x: File too large; raise the limit of this shell: ulimit -f"
    assert str(unwritable(fixed, "exports")) == "disk/x: Read-only file system; choose another place"


def test_a_command_that_is_told_can_be_typed() -> None:
    assert f"zoo export {quoted('runs/tiny')}" == "zoo export runs/tiny"
    assert f"zoo export {quoted('my runs/a')}" == "zoo export 'my runs/a'"
