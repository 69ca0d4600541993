"""What a process may use of the CPUs: affinity and quotas, from files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from zoo.models import processors
from zoo.models.processors import cgroup_quotas, limit_threads, limited_cpus, physical_cores, usable_cpus

MOUNT_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {group} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


@pytest.mark.parametrize(
    ("affinity", "quotas", "expected"),
    [
        (64, [], 64),
        (64, [2.0], 2),
        (64, [8.0, 2.5, 4.0], 3),
        (4, [8.0], 4),
        (4, [3.5], 4),
        (64, [0.25], 1),
        (1, [0.5], 1),
    ],
)
def test_the_smallest_limit_counts_and_a_part_of_a_cpu_is_one(
    affinity: int, quotas: list[float], expected: int
) -> None:
    assert usable_cpus(affinity, quotas) == expected


def machine(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A file system as a container sees it."""
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        pytest.param("0::/\n", MOUNT_V2, {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, [2.0], id="v2, docker --cpus 2"),
        pytest.param("0::/\n", MOUNT_V2, {"sys/fs/cgroup/cpu.max": "max 100000\n"}, [], id="v2, no limit"),
        pytest.param("0::/\n", MOUNT_V2, {}, [], id="v2, the root has no file"),
        pytest.param(
            "0::/kubepods/pod7/box\n",
            MOUNT_V2,
            {
                "sys/fs/cgroup/kubepods/pod7/box/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod7/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
            },
            [1.5, 8.0],
            id="v2, of the groups around it",
        ),
        pytest.param("0::/\n", "", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, [0.5], id="v2, the usual mount point"),
        pytest.param(
            "4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
            MOUNT_V1.format(group="/docker/abc"),
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            [3.0],
            id="v1, its own group is what is mounted",
        ),
        pytest.param(
            "4:cpu,cpuacct:/slice/job\n",
            MOUNT_V1.format(group="/"),
            {
                "sys/fs/cgroup/cpu,cpuacct/slice/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/slice/cpu.cfs_period_us": "200000\n",
            },
            [2.0],
            id="v1, nested, the inner one without a limit",
        ),
        pytest.param("3:cpuset:/a\n", MOUNT_V1.format(group="/"), {}, [], id="v1, another controller"),
        pytest.param("0::/../..\n", MOUNT_V2, {"sys/fs/cgroup/cpu.max": "100000 100000"}, [1.0], id="of a namespace"),
        pytest.param("0::/\nnonsense\n", "short line\n", {"sys/fs/cgroup/cpu.max": "a b c"}, [], id="not as expected"),
    ],
)
def test_quotas_are_read_up_to_the_mount_point(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], expected: list[float]
) -> None:
    assert cgroup_quotas(machine(tmp_path, cgroup, mountinfo, files)) == expected


def test_a_system_without_these_files_has_no_quota(tmp_path: Path) -> None:
    assert cgroup_quotas(tmp_path) == []
    assert physical_cores(tmp_path) == processors.affinity()


def test_two_threads_of_a_core_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3})
    for number, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        place = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(siblings)
    assert physical_cores(tmp_path) == 2


@pytest.mark.parametrize(("quota", "limit"), [([], None), ([6.0], None), ([4.0], None), ([3.0], 3), ([0.5], 1)])
def test_runtimes_are_held_to_what_is_less_than_their_own_count(
    monkeypatch: pytest.MonkeyPatch, quota: list[float], limit: int | None
) -> None:
    monkeypatch.setattr(processors, "affinity", lambda: 8)
    monkeypatch.setattr(processors, "physical_cores", lambda: 4)
    monkeypatch.setattr(processors, "cgroup_quotas", lambda: quota)
    assert limited_cpus() == limit
    environment: dict[str, str] = {}
    limit_threads(environment)
    assert environment == ({} if limit is None else {"OMP_NUM_THREADS": str(limit)})
    environment = {"OMP_NUM_THREADS": "7"}
    limit_threads(environment)
    assert environment == {"OMP_NUM_THREADS": "7"}, "what a person has set stays"
