"""
What is to be seen inside of a sandbox, and what is allowed there.

The root is an empty directory of ours. Into it goes, read-only, what Python and the
project need; links are links there too. All else of the host does not exist: neither
other people's homes, nor the rest of ``/etc``, nor sockets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings

from windlass.conf_file import FILE
from windlass.processes.conf import SETTING, ProcessOptions

# Where a sandbox finds the sockets of its log and of the talk with it, and who it is.
LOG, TALK, NOBODY = "/run/windlass/log", "/run/windlass/talk", 65534
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/os-release"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates"),
    *("/etc/pki/tls/certs", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust"),
    *("/etc/nsswitch.conf", "/etc/protocols", "/etc/services"),
)
# How names are looked up, where there is somebody to ask.
NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf")
# No project is here, however sys.path or BASE_DIR came to say so, but much else is.
TOO_BROAD = {
    *("/", "/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run"),
    *("/srv", "/sys", "/tmp", "/var", "/dev/shm", "/var/tmp"),
}
PASSED_ON = ("PYTHON", "WINDLASS_", "LC_")
# What Linux would let a user without rights do, and what many of its holes were in.
# gVisor has a kernel of its own, and needs none of this.
REFUSED = (
    *("add_key", "bpf", "clone3", "finit_module", "fsconfig", "fsmount", "fsopen"),
    *("init_module", "io_uring_enter", "io_uring_register", "io_uring_setup"),
    *("kexec_load", "kexec_file_load", "keyctl", "mount", "mount_setattr"),
    *("move_mount", "open_by_handle_at", "open_tree", "perf_event_open"),
    *("pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "request_key"),
    *("setns", "umount", "umount2", "unshare", "userfaultfd"),
)
ENOSYS, CLONE_NEWUSER = 38, 0x10000000
HIDDEN = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
)
UNCHANGED = ("bus", "fs", "irq", "sys", "sysrq-trigger")
CAPABILITIES = ("bounding", "effective", "inheritable", "permitted", "ambient")
PEOPLE = {
    "etc/passwd": "root:x:0:0::/:/bin/false\nnobody:x:65534:65534::/tmp:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


class Layout(NamedTuple):
    """Paths that are mounted where they are, and links to them."""

    # Each with whether it may be written.
    mounts: dict[str, bool]
    links: dict[str, str]


def layout(options: ProcessOptions) -> Layout:
    """What of the host is to be seen; FileNotFoundError for a mount that is not."""
    found = Layout({}, {})
    names = NAMES if options.sandbox_network == "host" else ()
    for path in _by_depth([*SYSTEM, *names, *_python(), *_project()]):
        _add(found, path)
    for index, said in enumerate(options.sandbox_mounts):
        path, _colon, mode = said.partition(":")
        if not os.path.exists(path):
            name = f'{SETTING}["SANDBOX_MOUNTS"][{index}]'
            raise FileNotFoundError(f"{name}: there is no {path}")
        _add(found, path, is_writable=mode == "rw")
    return found


def _by_depth(paths: Iterable[str]) -> list[str]:
    there = {os.path.normpath(path) for path in paths if os.path.exists(path)}
    return sorted(there, key=lambda path: (path.count("/"), path))


def _python() -> Iterator[str]:
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    yield os.path.dirname(os.path.realpath(sys.executable))


def _project() -> Iterator[str]:
    base = getattr(settings, "BASE_DIR", None)
    found = [*sys.path, *(config.path for config in apps.get_app_configs())]
    for path in (*found, *([os.fspath(base)] if base else [])):
        if os.path.isabs(path) and os.path.realpath(path) not in TOO_BROAD:
            yield path


def _add(found: Layout, path: str, *, is_writable: bool = False) -> None:
    real = os.path.realpath(path)
    if not _is_covered(real, {p for p, w in found.mounts.items() if w == is_writable}):
        found.mounts[real] = is_writable
    if path != real and not _is_covered(path, [*found.mounts, *found.links]):
        found.links[path] = real


def _is_covered(path: str, by: Iterable[str]) -> bool:
    return any(path == other or path.startswith(f"{other}/") for other in by)


def environment(options: ProcessOptions) -> dict[str, str]:
    """The variables that a sandbox has."""
    named = {
        "DJANGO_SETTINGS_MODULE",
        "PATH",
        "LANG",
        "TZ",
        *options.sandbox_environment,
    }
    found = {
        name: value
        for name, value in os.environ.items()
        if name in named or name.startswith(PASSED_ON)
    }
    # The file of the worker's options is not there, and none of them matters there.
    found.pop(FILE, None)
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return {"PATH": os.defpath, **found, "HOME": "/tmp"}


def config(
    options: ProcessOptions, kind: str, seen: Layout, sockets: dict[str, Path]
) -> Any:
    """What an OCI runtime is told, but for the command; sockets are by their place."""
    here = os.getcwd()
    process = {
        "terminal": False,
        "user": {"uid": NOBODY, "gid": NOBODY},
        "env": [f"{name}={value}" for name, value in environment(options).items()],
        "cwd": here if _is_covered(here, seen.mounts) else "/tmp",
        "noNewPrivileges": True,
        "capabilities": {each: [] for each in CAPABILITIES},
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sandbox",
        "mounts": [*_made(options), *_bound(seen, sockets)],
        "linux": _linux(options, kind),
    }


def _made(options: ProcessOptions) -> Iterator[dict[str, Any]]:
    kept = ["nosuid", "nodev", "mode=1777"]
    if options.memory_limit is not None:
        # What is written there is memory, too.
        kept.append(f"size={options.memory_limit}")
    yield _mount("proc", "/proc", "proc", ["nosuid", "noexec", "nodev"])
    yield _mount("tmpfs", "/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"])
    yield _mount("tmpfs", "/dev/shm", "tmpfs", kept)
    yield _mount("tmpfs", "/tmp", "tmpfs", kept)


def _bound(seen: Layout, sockets: dict[str, Path]) -> Iterator[dict[str, Any]]:
    # Whatever is below another comes after it.
    for path in sorted(seen.mounts, key=lambda path: path.count("/")):
        how = "rw" if seen.mounts[path] else "ro"
        yield _mount("bind", path, path, ["rbind", how, "nosuid", "nodev"])
    for place, socket in sockets.items():
        yield _mount("bind", place, str(socket), ["bind", "rw", "nosuid", "nodev"])


def _mount(kind: str, to: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"type": kind, "destination": to, "source": source, "options": options}


def _linux(options: ProcessOptions, kind: str) -> dict[str, Any]:
    kinds = ["pid", "mount", "ipc", "uts"]
    if options.sandbox_network == "none":
        kinds.append("network")
    said: dict[str, Any] = {
        "maskedPaths": list(HIDDEN),
        "readonlyPaths": [f"/proc/{name}" for name in UNCHANGED],
        "seccomp": _seccomp(),
    }
    if os.geteuid() and kind != "runsc":
        # Without rights, a user may be somebody else in a namespace of his own only.
        kinds.append("user")
        own = (("uidMappings", os.geteuid()), ("gidMappings", os.getegid()))
        for name, id in own:
            said[name] = [{"containerID": NOBODY, "hostID": id, "size": 1}]
    return {**said, "namespaces": [{"type": each} for each in kinds]}


def _seccomp() -> dict[str, Any]:
    new_user = {"index": 0, "value": CLONE_NEWUSER, "valueTwo": CLONE_NEWUSER}
    refused = {"action": "SCMP_ACT_ERRNO"}
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            # C libraries then use clone(), into whose arguments can be looked.
            {**refused, "names": ["clone3"], "errnoRet": ENOSYS},
            {**refused, "names": [name for name in REFUSED if name != "clone3"]},
            {
                **refused,
                "names": ["clone"],
                "args": [{**new_user, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    }
