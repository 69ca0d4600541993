"""Real processes around a real artifact; few rounds, for speeds are no matter of a test."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from slowed import slowed_subject
from zoo.errors import UnavailableError
from zoo.exporter.timing import engine
from zoo.exporter.timing.engine import CONTROL, WORKER, Look, measure, measure_each, opened
from zoo.exporter.timing.openers import artifact_subject, reference_subject
from zoo.exporter.timing.setup import GATE, SELECT, Subject, TimingSetup
from zoo.exporter.timing.statistics import ratio

SHORT = replace(GATE, rounds=1, threads=1, block_ms=1.0, lead_in_ms=0.0, warm_s=(0.0, 0.2), control="")


def test_rounds_of_processes(exported) -> None:
    looks: list[Look] = []
    own = artifact_subject("artifact", exported["onnx"])
    other = artifact_subject("reference", exported["onnx"])
    found = measure((own, other), replace(SHORT, rounds=2, control="reference"), looks.append)
    assert list(found) == ["artifact", "reference", CONTROL]
    for one in found.values():
        assert len(one.rounds) == 2
        assert one.threads == 1
        assert min(one.times) > 0
        for fact in ("load_ms", "first_ms", "peak_memory_mb"):
            assert (one.fact(fact) or 0) > 0, fact
        for step in one.rounds:
            order = step.facts["order"].split()
            assert order == order[::-1], "mirrored, so that drift cancels"
            assert sorted(order[:3]) == ["a", "c", "r"]
    assert [look.subject == "" for look in looks] == 2 * [False, False, False, True]
    assert (looks[-1].done, looks[-1].total) == (2, 2)


def test_a_copy_slowed_threefold_is_seen(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    slow = slowed_subject("slow", exported["onnx"], 3.0)
    found = measure((slow, artifact_subject("as it is", exported["onnx"])), SHORT)
    assert ratio(found["slow"], found["as it is"]).value > 1.5


def test_who_is_surely_slower_leaves_the_race_and_one_stays(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    race = replace(SELECT, threads=1, block_ms=5.0, lead_in_ms=5.0, warm_s=(0.0, 0.2), rounds=3)
    subjects = [artifact_subject("float", exported["onnx"]), artifact_subject("as it is", exported["onnx"]),
                slowed_subject("slow", exported["onnx"], 8.0)]  # fmt: skip
    found = measure(subjects, race, stay="float")
    assert {name: len(one.rounds) for name, one in found.items()} == {"float": 3, "as it is": 3, "slow": 2}


def test_subjects_that_share_threads_share_a_process(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[engine.Worker] = []
    enter = engine.Worker.__enter__

    def counted(self: engine.Worker) -> engine.Worker:
        started.append(self)
        return enter(self)

    monkeypatch.setattr(engine.Worker, "__enter__", counted)
    pair = [replace(artifact_subject(name, exported["torchscript"]), shares="torch") for name in ("one", "two")]
    measure(pair, replace(SHORT, lives=2, rounds=3))
    assert len(started) == 2, "one for each two rounds"
    started.clear()
    measure(pair, SHORT)
    assert len(started) == 2, "a process of its own for each, where rounds have to be independent"


def test_one_process_times_many(exported) -> None:
    setup = replace(SHORT, warm_s=(0.0, 0.0))
    subjects = [artifact_subject(str(index), exported["onnx"]) for index in range(3)]
    done: list[tuple[int, int]] = []
    found = list(measure_each(subjects, setup, lambda *now: done.append(now)))
    assert [one.name for one in found] == ["0", "1", "2"]
    assert all(min(one.times) > 0 for one in found)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_the_eager_reference_and_a_block_of_another_length(exported) -> None:
    with opened(reference_subject(exported["onnx"]), SHORT) as running:
        assert running.open()["stable"] in (True, False)
        assert len(running.block(least=7)) >= 7
        assert running.operators() == [], "torch tells nothing of its operators here"


def test_operators_of_onnx_runtime(exported) -> None:
    (found,) = measure([artifact_subject("one", exported["onnx"])], replace(SHORT, operators=3)).values()
    operators = found.rounds[0].facts["operators"]
    assert any(kind == "Conv" for _, kind, _ in operators)
    assert all(us >= 0 for _, _, us in operators)


def subject(name: str, opener: str = "zoo.exporter.timing.openers:open_artifact", **given: str) -> Subject:
    return Subject(name=name, opener=opener, given=given)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (subject("gone", folder="/nowhere"), "gone: UsageError: /nowhere: no such artifact"),
        (subject("odd", "os:_exit", folder="x"), "odd"),
        (subject("nobody", "no.such.module:open"), "nobody: ModuleNotFoundError"),
    ],
)
def test_a_process_that_fails_says_why(one: Subject, words: str) -> None:
    with pytest.raises(UnavailableError, match=words):
        measure([one], SHORT)


def test_one_that_ends_tells_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('out of memory')")
    monkeypatch.setattr(engine.Worker.__init__, "__defaults__", (command,))
    with pytest.raises(UnavailableError, match="the process of dead ended with 1: out of memory"):
        measure([subject("dead")], SHORT)


def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(engine.Worker.__init__, "__defaults__", (command,))
    monkeypatch.setattr(engine, "READY_S", 0.2)
    with pytest.raises(UnavailableError, match="asleep did not answer in 0 s"):
        measure([subject("asleep")], SHORT)


def test_what_libraries_print_is_no_answer(exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    loud = Subject(name="loud", opener="loud:open_loud", given={"folder": str(exported["onnx"])})
    (found,) = measure([loud], SHORT).values()
    assert min(found.times) > 0


def test_setups_travel_as_json() -> None:
    from dataclasses import asdict

    from zoo.exporter.timing.worker import parse_setup

    assert parse_setup(json.loads(json.dumps(asdict(SELECT)))) == SELECT


def test_the_same_threads_everywhere() -> None:
    assert {one.threads for one in (GATE, SELECT, engine_setup("PROFILE"), engine_setup("LAYERS"))} == {None}


def engine_setup(name: str) -> TimingSetup:
    from zoo.exporter.timing import setup

    return getattr(setup, name)


@pytest.mark.gpu
def test_a_gpu_tells_transfers_from_runs(exported) -> None:
    for name in ("torchscript", "onnx"):
        pair = (artifact_subject("artifact", exported[name]), reference_subject(exported[name]))
        found = measure(pair, replace(GATE, rounds=2, device="cuda", control=""))
        for fact in ("upload_ms", "fetch_ms"):
            assert found["artifact"].fact(fact) is not None
        assert min(found["artifact"].times) > 0


def test_users_folders_do_not_shadow_the_worker() -> None:
    assert "-P" in WORKER
