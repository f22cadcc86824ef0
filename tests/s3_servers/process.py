"""One server process: its own group, its output in a file, gone when we are."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

START_SECONDS_MAX = 180
STOP_SECONDS_MAX = 10


class Process:
    """A running command. Raises `RuntimeError` with the tail of its log when it dies before it is ready."""

    def __init__(
        self, name: str, command: list[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._name = name
        self._log = log
        # The kernel ends it when we die without saying goodbye; without setpriv only an orderly exit does.
        leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                leash + command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Poll: a foreign process offers nothing else to wait on."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not ready():
            if self._popen.poll() is not None:
                raise RuntimeError(f"{self._name} died at start: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self._name} is not ready after {START_SECONDS_MAX} s: {self.log_tail()}"
                )
            time.sleep(0.02)

    def wait_until_port(self, port: int) -> None:
        self.wait_until(lambda: listens(port))

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def logged(self, words: str) -> bool:
        return words in self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """SIGKILL to the whole group, as a power cut would."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what dawdles."""
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running:
            os.killpg(self._popen.pid, number)


def listens(port: int) -> bool:
    """Whether something takes connections on this loopback port."""
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A free loopback port below the ephemeral range: no outgoing connection takes it while a server restarts."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                if port not in _GIVEN:
                    _GIVEN.add(port)
                    return port


_GIVEN: set[int] = set()
"""Ports that this process gave out and whose servers may not listen yet."""
