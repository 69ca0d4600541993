"""Evidence for others' tools: an in-toto statement of the predicate "test result" about an artifact's files.

Statement: github.com/in-toto/attestation, spec/v1/statement.md; predicate: spec/predicates/test-result.md. It is not
signed: whoever signs artifacts signs it with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .record import parse_record

STATEMENT = "https://in-toto.io/Statement/v1"
EVIDENCE_ENTRY = "evidence"  # the record that the statement is of
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def statement_of(evidence: bytes, artifact: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Say what a check found of an artifact's files.

    Args:
        evidence: the record, as it was written.
        artifact: the name of its folder.
        files: SHA-256 of each file in that folder, artifact.json among them.

    Returns:
        The statement: PASSED only where every gate that was judged passed and the required ones were judged.
    """
    record = parse_record(evidence)
    named = {
        word: [name for name, found in record.verdicts.items() if found == verdict]
        for word, verdict in (("passedTests", "pass"), ("warnedTests", "inconclusive"), ("failedTests", "fail"))
    }
    result = "FAILED" if named["failedTests"] else "PASSED"
    if result == "PASSED" and (named["warnedTests"] or record.unjudged):
        result = "WARNED"
    configuration: list[dict[str, Any]] = [
        {"name": EVIDENCE_ENTRY, "digest": {"sha256": hashlib.sha256(evidence).hexdigest()}},
        {"name": "reference weights", "digest": {"sha256": record.raw["reference_sha256"]}},
    ]
    pixels = record.raw.get("pixels_sha256")
    if record.data is not None and isinstance(pixels, str):
        configuration.append({"name": f"images of {record.data[0]}", "digest": {"sha256": pixels}})
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"{artifact}/{name}", "digest": {"sha256": files[name]}} for name in sorted(files)],
        "predicateType": PREDICATE,
        "predicate": {"result": result, "configuration": configuration, **named},
    }
