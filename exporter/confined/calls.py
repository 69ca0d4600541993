"""Closes system calls that a runtime does not need: sockets, new processes, the attributes of files, other processes.

A filter of seccomp(2) in classic BPF, as small as one can be: it lets everything pass but the calls below, which fail
with EPERM. Landlock and namespaces close more; this closes what they leave: sockets in the file system, modes and times
of files, processes and memory that would not be counted. Numbers are the kernel's, arch/x86/entry/syscalls/
syscall_64.tbl and include/uapi/asm-generic/unistd.h; None where an architecture has no such call.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from collections.abc import Iterator

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, AUDIT_ARCH
_DENIED: dict[str, tuple[int | None, int]] = {
    # sockets, other than those that were handed over: none
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425),
    # programs, and processes that would not be counted
    "execve": (59, 221), "execveat": (322, 281), "setsid": (112, 157), "setpgid": (109, 154),
    # attributes of files, which Landlock does not close
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchown": (93, 55), "fchownat": (260, 54),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "mknodat": (259, 33), "inotify_add_watch": (254, 27), "fanotify_init": (300, 262), "open_by_handle_at": (304, 265),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "setpriority": (141, 140), "kcmp": (312, 272),
    # memory that outlives a process, or is not its own
    "shmget": (29, 194), "memfd_create": (319, 279), "memfd_secret": (447, 447), "mq_open": (240, 180),
    "msgget": (68, 186), "semget": (64, 190),
    # the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "personality": (135, 92), "syslog": (103, 116),
}  # fmt: skip
_OLD = (57, 58, 90, 92, 94, 132, 133, 235, 261)  # x86-64 alone: fork, vfork, chmod, chown, lchown, utime, mknod, ...
_CLONE, _CLONE3, _PRLIMIT = (56, 220), (435, 435), (302, 261)
_THREAD = 0x10000  # CLONE_THREAD
_X32 = 0x40000000  # calls of x86-64's 32-bit form
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_LOAD, _EQUAL, _ANY, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # BPF: LD W ABS, JMP JEQ, JSET, JGE, RET
_NUMBER, _ARCH, _FIRST = 0, 4, 16  # offsets in struct seccomp_data, which is little-endian on both

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter)))


def program(machine: str) -> list[Instruction]:
    """Return the filter for an architecture; empty for one that nobody listed.

    Args:
        machine: as `platform.machine()` names it.
    """
    if machine not in _ARCHITECTURES:
        return []
    column, audit = _ARCHITECTURES[machine]
    refused = _FAIL | errno.EPERM

    def instructions() -> Iterator[Instruction]:
        yield (_LOAD, 0, 0, _ARCH)
        yield (_EQUAL, 1, 0, audit)
        yield (_RETURN, 0, 0, refused)
        yield (_LOAD, 0, 0, _NUMBER)
        if column == 0:
            yield (_AT_LEAST, 0, 1, _X32)
            yield (_RETURN, 0, 0, refused)
        denied = {numbers[column] for numbers in _DENIED.values()} | set(_OLD if column == 0 else ())
        for number in sorted(one for one in denied if one is not None):
            yield (_EQUAL, 0, 1, number)
            yield (_RETURN, 0, 0, refused)
        yield (_EQUAL, 0, 1, _CLONE3[column])  # its flags lie in memory: libc then takes clone
        yield (_RETURN, 0, 0, _FAIL | errno.ENOSYS)
        yield (_EQUAL, 0, 3, _CLONE[column])
        yield (_LOAD, 0, 0, _FIRST)
        yield (_ANY, 4, 0, _THREAD)  # a thread of its own: to the last but one
        yield (_RETURN, 0, 0, refused)
        yield (_EQUAL, 0, 2, _PRLIMIT[column])
        yield (_LOAD, 0, 0, _FIRST)
        yield (_EQUAL, 0, 1, 0)  # of itself
        yield (_RETURN, 0, 0, _ALLOW)
        yield (_RETURN, 0, 0, refused)

    return list(instructions())


def close_calls() -> str:
    """Close them for this process, for good; what closes them, "" where nothing can."""
    made = program(platform.machine()) if sys.platform == "linux" else []
    if not made:
        return ""
    filters = (_Filter * len(made))(*made)
    asked = _Program(len(made), filters)
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or libc.prctl(set_seccomp, mode_filter, ctypes.byref(asked)) != 0:
        return ""
    return "seccomp"
