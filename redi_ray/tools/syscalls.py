"""System calls that a call may not make: a filter of the kernel's (seccomp), for it and all that comes of it. Linux, 64 bits.

Namespaces keep a call from files, processes and the network. What is refused here is what they leave open: memory and keys that
outlive the call or that no limit counts, limits of other processes of the same user, and doors of the kernel that no calculation
needs. Refused means EPERM, so that code goes on.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import NamedTuple

_PR_GET_SECCOMP, _PR_SET_SECCOMP, _FILTER = 21, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000 | 1
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_OTHER_ABI = 0x4000_0000
"""Numbers from here on are those of x32 programs, which would pass by any other number."""
_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_REFUSED = {
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),  # stay until they are deleted
    "memfd_create": (319, 279), "memfd_secret": (447, 447),  # files in memory, which count as nobody's
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "open_tree": (428, 428), "fsopen": (430, 430),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
}  # fmt: skip
"""Name -> its number by `_ARCHITECTURES`, in their order."""
_LIMITS_OF = (302, 261)
"""prlimit64, refused where its first argument, a process, is not 0, which is the one that calls."""


class _Step(NamedTuple):
    """One instruction. yes, no: steps to skip."""

    code: int
    value: int
    yes: int = 0
    no: int = 0


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Instruction))]


_libc = ctypes.CDLL(None, use_errno=True)


def has_filter() -> bool:
    """Whether this machine can refuse system calls."""
    return os.uname().machine in _ARCHITECTURES and _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def refuse() -> None:
    """Refuse them to this process from now on, for good. It must have given up gaining rights. Raises OSError."""
    program = filter_of(os.uname().machine)
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp: {os.strerror(code)}")


@cache
def filter_of(machine: str) -> _Program:
    """The filter as the kernel reads it; whoever forks for many calls makes it once, before them."""
    steps = _program(machine)
    made = (_Instruction * len(steps))(*(_Instruction(step.code, step.yes, step.no, step.value) for step in steps))
    return _Program(len(steps), made)


def _program(machine: str) -> list[_Step]:
    place = list(_ARCHITECTURES).index(machine)
    steps = [_Step(_LOAD, _ARCHITECTURE_AT), _Step(_EQUAL, _ARCHITECTURES[machine], yes=1), _Step(_RETURN, _REFUSE)]
    steps += [_Step(_LOAD, _NUMBER_AT), _Step(_AT_LEAST, _OTHER_ABI, no=1), _Step(_RETURN, _REFUSE)]
    for numbers in _REFUSED.values():
        steps += [_Step(_EQUAL, numbers[place], no=1), _Step(_RETURN, _REFUSE)]
    steps += [_Step(_EQUAL, _LIMITS_OF[place], yes=1), _Step(_RETURN, _ALLOW), _Step(_LOAD, _FIRST_ARGUMENT_AT)]
    return [*steps, _Step(_EQUAL, 0, no=1), _Step(_RETURN, _ALLOW), _Step(_RETURN, _REFUSE)]
