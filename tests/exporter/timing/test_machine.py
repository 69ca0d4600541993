from __future__ import annotations

from zoo.exporter.timing.machine import Watch, notes_of, shares

BEFORE = {"user": 100, "nice": 0, "system": 0, "idle": 1000, "iowait": 0, "irq": 0, "softirq": 0, "steal": 10}


def test_whose_cpu_time_it_was() -> None:
    after = BEFORE | {"user": 160, "idle": 1100, "steal": 50}
    assert shares(BEFORE, after, own_seconds=0.4, ticks_a_second=100) == ((60 - 40) / 200, 40 / 200)
    assert shares(BEFORE, after, own_seconds=9.0, ticks_a_second=100)[0] == 0.0
    assert shares({}, {}, 1.0, 100) == (None, None), "no /proc"
    assert shares(BEFORE, BEFORE, 0.0, 100) == (None, None), "no time passed"


def test_what_makes_timings_doubtful() -> None:
    assert notes_of(0.01, 0.0, 3000, 3100, 0, "performance") == ()
    told = " ".join(notes_of(0.3, 0.05, 1200, 3100, 4, "powersave"))
    for words in ("used 30%", "took 5%", "from 1200 to 3100", "throttled for their heat 4", "powersave"):
        assert words in told
    assert notes_of(None, None, None, None, None, None) == ("clocks cannot be read here",)


def test_this_machine() -> None:
    seen = Watch().seen(threads=2)
    assert seen.threads == 2
    assert seen.cores == len(seen.affinity) >= 1
    assert seen.cpu
    assert seen.gpu is None
