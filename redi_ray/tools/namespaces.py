"""A process takes itself out of the machine: namespaces, a file system of its own, no rights. Linux, by its system calls.

What bubblewrap does, for one purpose, so that nothing has to be installed. A user namespace gives the right to make the others;
the process that serves keeps that right, to give every call a fresh scratch folder, and every call gives it up.

    /usr, /lib, ..., the interpreter's folders    bound from outside, to read
    /dev/{null,zero,random,urandom}
    /scratch                                      in memory, mounted anew for every call

There is no /proc, where a process of the machine's root could still write settings of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

SCRATCH = "/scratch"
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
DEVICES = ("null", "zero", "random", "urandom")
OTHER_USER = 1000
"""The user that calls run as inside, where the machine's root made the sandbox."""
FIRST_UID = 0x6000_0000
"""Users outside that nobody is; each sandbox of the machine's root has one, so that processes are counted for it alone."""

_NEW = {"ns": 0x0002_0000, "cgroup": 0x0200_0000, "uts": 0x0400_0000, "ipc": 0x0800_0000, "user": 0x1000_0000,
        "pid": 0x2000_0000, "net": 0x4000_0000}  # fmt: skip
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_READ_ONLY, _NO_SUID, _NO_DEV = 1, 2, 4
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 1, 4, 8, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    options = None if data is None else data.encode()
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), options), f"mount {target}")


def _protect(path: str, flags: int, *, recursive: bool) -> None:
    attributes = _Attributes(set=flags)
    options = _AT_RECURSIVE if recursive else 0
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    done = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), options, ctypes.byref(attributes), size)
    _check(done, f"mount_setattr {path}")


def prctl(option: int, value: int = 0) -> int:
    """The system call; -1 where it fails."""
    return _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def leave() -> None:
    """Namespaces of one's own for this process (its children, for processes). Raises OSError where that is not allowed.

    A helper outside writes which user is which, since the one who has left may name a single one only.
    """
    ready, mapped = os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(ready[1])
        written = os.read(ready[0], 1) and _map_users(os.getppid())
        os.write(mapped[1], b"1" if written else b"0")
        os._exit(0)
    flags = 0
    for flag in _NEW.values():
        flags |= flag
    _check(_libc.unshare(flags), "unshare")
    os.write(ready[1], b"1")
    os.close(mapped[1])
    if os.read(mapped[0], 1) != b"1":
        raise OSError("the users of the new namespace cannot be named")
    os.waitpid(helper, 0)
    for end in (*ready, mapped[0]):
        os.close(end)


def _map_users(pid: int) -> bool:
    """Name the users of a process's namespace: its root is who we are; the machine's root has another one beside."""
    own_user, own_group, other = os.getuid(), os.getgid(), ""
    if own_user == 0:
        other = f"{OTHER_USER} {FIRST_UID + pid} 1\n"
    try:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/gid_map").write_text(f"0 {own_group} 1\n{other}")
        Path(f"/proc/{pid}/uid_map").write_text(f"0 {own_user} 1\n{other}")
    except OSError as error:
        print(f"user namespace: {error}", file=sys.stderr)
        return False
    return True


def build(root: str, visible: Iterable[str]) -> None:
    """A file system of one's own at `root`, an empty folder, and nothing else. visible: folders to read."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")  # or a call could gain rights in one of its own
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in SYSTEM:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            _show(root, path)
    for path in sorted({os.path.realpath(folder) for folder in visible}):
        if not path.startswith("/usr/") and path != "/":
            _show(root, path)
    os.makedirs(f"{root}/dev")
    for name in DEVICES:
        Path(f"{root}/dev/{name}").touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, _MS_BIND)
    os.makedirs(root + SCRATCH)
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount /")
    os.chdir("/")
    _protect("/", _READ_ONLY, recursive=False)


def _show(root: str, path: str) -> None:
    os.makedirs(root + path, exist_ok=True)
    _mount(path, root + path, None, _MS_BIND | _MS_REC)
    _protect(root + path, _READ_ONLY | _NO_SUID | _NO_DEV, recursive=True)


def fresh_scratch(size_mb: int, user: int) -> None:
    """An empty scratch folder in memory, in place of the last one."""
    _libc.umount2(SCRATCH.encode(), _MNT_DETACH)  # before the first call there is none
    options = f"size={size_mb}m,nr_inodes=4096,mode=700,uid={user},gid={user}"
    _mount("tmpfs", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def keep_secret() -> None:
    """Nobody may look into this process's memory or take hold of its files."""
    prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """What loses its parent below this process becomes its child."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """This process is killed when its parent ends."""
    prctl(_PR_SET_PDEATHSIG, 9)


def give_up_rights(user: int | None, *, may_read: bool = False) -> None:
    """Become this user, for good and without any rights of root's. may_read: but that to read all files."""
    kept = may_read and user is not None
    if kept:
        prctl(_PR_SET_KEEPCAPS, 1)
    capability = 0
    while prctl(_PR_CAPBSET_DROP, capability) == 0:
        capability += 1
    if user is not None:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    rights = 1 << _CAP_DAC_READ_SEARCH if kept else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    told = (ctypes.c_uint32 * 6)(rights, rights, 0, 0, 0, 0)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(told)), "capset")
    if prctl(_PR_SET_NO_NEW_PRIVS, 1) != 0:
        raise OSError("no_new_privs cannot be set")
