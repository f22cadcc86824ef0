"""This machine: room for files, limits of the process, the proxy of the environment.

The limits are those of this command. A daemon in another container or service has its own.
"""

import pathlib
import resource
import socket
from collections.abc import Iterator, Sequence

from archiver.audit.doctor.finding import Finding, Verdict, ok, warning
from archiver.engine.looks.machine import MachineLook, of_spool
from archiver.failures import SpoolFull
from archiver.fetch.proxy import Proxy
from archiver.fetch.spool import Spool, disk_space

FILES_MIN = 1024
"""Sixteen transfers, the pools of store and ledger, and some hundred connections of clients at once."""
MEMORY_BYTES_MIN = 320 * 2**20
"""The largest peak that the benchmarks have seen is 250 MB."""
PROXY_SECONDS = 5.0
_CGROUP = pathlib.Path("/sys/fs/cgroup")
_MEMORY_FILES = ("memory.max", "memory/memory.limit_in_bytes")
"""Files of cgroup version 2 and version 1, as a container sees them."""
_UNLIMITED_BYTES = 2**60
"""Version 1 writes a huge number for no limit."""


def disks(spool: Spool, ledger_url: str) -> Iterator[Finding]:
    """The daemon's own look, which makes no folder here: that may be mistyped, or another user's to make."""
    look = MachineLook(spool, ledger_url)
    try:
        unmade = spool.unmade_folder()
        problems = look.look() if unmade is None else look.of_ledger()
    except SpoolFull as error:
        unmade, problems = None, [of_spool(error), *look.of_ledger()]
    for problem in problems:
        verdict = Verdict.FAILED if problem.code == "disk_low" else Verdict.WARNING
        yield Finding(verdict, problem.message, problem.what_to_do)
    if not problems and unmade is not None:
        yield ok(f"spool and disks; {unmade} is not there, the daemon will make it")
    elif not problems:
        yield ok("spool and disks")


def spool_room(folder: pathlib.Path) -> Iterator[Finding]:
    """How much a spool could hold; whether it works, `disks` says."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    space = disk_space(existing)
    yield ok(
        f"room for the spool at {folder}: {space.free // 1_000_000} of {space.total // 1_000_000} MB are free"
    )


def open_files() -> Iterator[Finding]:
    """`ulimit -n`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_open_files(soft, hard)


def judge_open_files(soft: int, hard: int) -> Finding:
    """-1 is no limit."""
    if 0 <= soft < FILES_MIN:
        what_to_do = (
            f"Raise it to {FILES_MIN} or more: ulimit -n, LimitNOFILE= of systemd, --ulimit of a container."
        )
        return warning(f"a process here may open {soft} files (at most {hard})", what_to_do)
    return ok(f"a process here may open {'any number of' if soft < 0 else soft} files")


def memory(root: pathlib.Path = _CGROUP) -> Iterator[Finding]:
    """The limit of the container or service."""
    limit = memory_limit_bytes(root)
    if limit is None:
        yield ok("no memory limit on this process")
    elif limit < MEMORY_BYTES_MIN:
        message = f"the memory limit of this process is {limit // 2**20} MiB"
        what_to_do = (
            f"Allow {MEMORY_BYTES_MIN // 2**20} MiB or more, or the kernel may kill the daemon under load."
        )
        yield warning(message, what_to_do)
    else:
        yield ok(f"memory limit {limit // 2**20} MiB")


def memory_limit_bytes(root: pathlib.Path) -> int | None:
    """None for no limit, and where none can be read."""
    for name in _MEMORY_FILES:
        try:
            written = (root / name).read_text().strip()
        except OSError:
            continue
        if written.isdecimal() and int(written) < _UNLIMITED_BYTES:
            return int(written)
    return None


def proxies(proxy: Proxy | None, variables: Sequence[str]) -> Iterator[Finding]:
    """Which clients use the environment's proxy, and whether it can be reached. Its user and password are not shown."""
    if proxy is None:
        unused = f" ({', '.join(variables)} set, without effect on https)" if variables else ""
        yield ok(f"no proxy for https in the environment{unused}")
        return
    where = f"{proxy.origin.host}:{proxy.origin.port}"
    message = (
        f"{', '.join(variables)}: the API, the CDN, the store, forwards and alerts are reached through {where}, "
        f"but for {', '.join(proxy.bypassed) or 'loopback'}"
    )
    try:
        socket.create_connection((proxy.origin.host, proxy.origin.port), timeout=PROXY_SECONDS).close()
    except OSError as error:
        what_to_do = "Correct the variable, or list hosts that need no proxy in NO_PROXY."
        yield Finding(
            Verdict.FAILED, f"the proxy {where} cannot be reached: {error.strerror or error}", what_to_do
        )
    else:
        yield ok(message)
