"""Why a step is made again, in words: what of all that its key is made of is other than it was. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cache_keys import digest_of

SHOWN = 2
SHORT = 12  # characters of a digest: they tell one state of a step from another, and prove nothing
WORDS = {"accelerator": "accelerator_type", "code": "zoo's code", "machine": "the machine", "form": "its form"}


def parts_of(
    facts: Mapping[str, Any], needs: Sequence[str], named: Sequence[tuple[str, str]], code: Mapping[str, str]
) -> dict[str, str]:
    """Short digests of what a key is made of, by the words that a person knows each by; the first tell most.

    Args:
        facts: of keys.facts_of.
        needs: names of the steps behind its `parents`.
        named: what lies outside, of keys.outside.
        code: hashes of a factory's modules, by file.
    """
    found: dict[str, Any] = dict(code)
    values = dict(named)
    found |= {str(values.get(name, name)): value for name, value in facts["outside"].items()}
    found |= dict(facts["options"])
    found |= dict(zip(needs, facts["parents"], strict=True))
    found |= {f"the version of {name}": value for name, value in facts["tools"].items()}
    apart = ("outside", "options", "parents", "tools", "models", "kind")
    found |= {WORDS.get(name, name): value for name, value in facts.items() if name not in apart}
    return {name: digest_of(value)[:SHORT] for name, value in found.items()}


def why(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what changed between two steps of other keys.

    >>> why({"epochs": "a", "seed": "b", "net.py": "c"}, {"net.py": "c", "epochs": "x", "seed": "b"})
    'epochs changed'
    """
    names = [name for name in (*now, *(one for one in before if one not in now)) if now.get(name) != before.get(name)]
    if not before or not names:
        return "what it hangs on changed"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} changed"
