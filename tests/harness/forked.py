"""Programs of ours as forks of one process that has imported them: a start costs 0.1 s of CPU instead of 1.2.

A fork runs `python -W error -m PROGRAM` from its first line, with the environment, folder and output that it is given;
like a process of its own it answers signals, and its exit status is what it returned. What it cannot show is that the
imports work: `can_fork` leaves starts to Python where the command or the environment has a say in them, and the demo's
daemons are started by Python always.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tests.harness.repository import ROOT

PROGRAMS = ("receiver", "archiver")
IMPORTED = ("receiver.daemon", "archiver.commands.terminal.group", "archiver.commands.work")
"""Before the first fork. Never a `__main__`, which the fork runs."""

INHERITED = ("PATH", "LANG", "TMPDIR")
READ_AT_START = (*INHERITED, "PYTHON", "LC_", "LD_", "MALLOC_")
"""How names begin of variables that Python and its libraries read while they start."""

_REQUEST_BYTES_MAX = 1 << 20
_PR_SET_PDEATHSIG = 1


def can_fork(program: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork shows the same as a process of its own. Its leash is held by a thread: by the main one."""
    read = {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
    return (
        program[0] in PROGRAMS
        and read == _inherited()
        and sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
    )


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


class ForkedProcess:
    """One fork. What `subprocess.Popen` offers, as far as tests use it."""

    def __init__(self, nursery: "_Nursery", pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._end = select.poll()
        self._descriptor = os.pidfd_open(pid)
        self._end.register(self._descriptor, select.POLLIN)
        self._status: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        return self._poll(0)

    def wait(self, seconds: float | None = None) -> int:
        """The exit status. Raises `subprocess.TimeoutExpired`."""
        status = self._poll(None if seconds is None else seconds * 1000)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", seconds or 0.0)
        return status

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def _poll(self, milliseconds: float | None) -> int | None:
        with self._lock:
            if self._status is None and self._end.poll(milliseconds):
                self._status = self._nursery.status_of(self.pid)
                os.close(self._descriptor)
            return self._status


def fork(
    program: Sequence[str], *, environment: Mapping[str, str], output: int, folder: pathlib.Path = ROOT
) -> ForkedProcess:
    """Start a module with arguments; what it prints goes to the file descriptor `output`."""
    nursery = _nursery()
    return ForkedProcess(
        nursery, nursery.fork(program, environment=environment, output=output, folder=folder)
    )


@functools.cache
def _nursery() -> "_Nursery":
    return _Nursery()


class _Nursery:
    """The process that has imported all. It has one thread, which forks and tells how forks have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with theirs:
            self._process = subprocess.Popen(
                [*leash, sys.executable, "-W", "error", "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                env=_inherited(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # as little a terminal as what the forks write to
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def fork(
        self, program: Sequence[str], *, environment: Mapping[str, str], output: int, folder: pathlib.Path
    ) -> int:
        request = {"program": [*program], "environment": {**environment}, "folder": str(folder)}
        return self._ask(request, [output])

    def status_of(self, pid: int) -> int:
        """The exit status of a fork that has ended, negative after a signal."""
        return self._ask({"ended": pid}, [])

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(100)
        assert answer, "the process that forks has ended"
        return int(answer)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


def _serve(asked: socket.socket) -> Sequence[str]:
    """Fork whenever asked. Returns in each fork: the program to run."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, _REQUEST_BYTES_MAX, 1)
        if not message:
            os._exit(0)  # the tests have ended
        request = json.loads(message)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                break
            for descriptor in descriptors:
                os.close(descriptor)
        asked.send(str(answer).encode())
    asked.close()
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    for standard in (1, 2):
        os.dup2(descriptors[0], standard)
    os.close(descriptors[0])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program: list[str] = request["program"]
    return program


def _main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        program = _serve(asked)
    sys.argv[1:] = program[1:]
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
