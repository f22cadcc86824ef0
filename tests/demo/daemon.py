"""The real daemon in a process of its own, started again when it dies, as systemd would.

`supervise` never waits: it is called ten times a second and does what is due. Kill the daemon meanwhile, and the
account goes on while its callbacks are refused, as in production.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.demo.leash import leashed
from tests.demo.stopping import DemoFailed

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 60
TAIL_LINES = 12
UNANSWERED = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
"""Errors that a dead, dying or busy daemon causes."""

PrintEvent = Callable[[str, str], None]
"""Takes a word for what happened, and the sentence."""


class Daemon:
    """One daemon; `settings` are all the `KLING_…` and `AWS_…` variables it gets, `program` a module and arguments."""

    def __init__(
        self,
        *,
        settings: Mapping[str, str],
        working_folder: Path,
        log: Path,
        print_event: PrintEvent,
        name: str = "the daemon",
        program: Sequence[str] = ("receiver",),
    ) -> None:
        self.url = url = f"http://127.0.0.1:{settings['KLING_PORT']}"
        self.log = log
        self.name = name
        self._program = program
        self.starts = 0
        self.is_ready = False
        self._environment = _environment(settings)
        self._working_folder = working_folder
        self._print_event = print_event
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=2.0)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    @property
    def pid(self) -> int:
        """Of the running or the last process; 0 before the first."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process; `supervise` notices when it is ready."""
        self.starts += 1
        self.is_ready = False
        self._started_at = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                leashed([sys.executable, "-m", *self._program]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self._working_folder,
                start_new_session=True,  # Ctrl-C at the terminal is for the demo alone, which then stops it
            )

    def supervise(self) -> None:
        """Start the daemon again if it died; notice when it is ready.

        Raises `DemoFailed` if it exits before it is ready, or is not ready in time.
        """
        status = self._process.poll() if self._process else None
        if status is not None:
            self._restart(status)
        elif not self.is_ready:
            self._look_whether_ready()

    def terminate(self) -> None:
        """SIGTERM, as a service is stopped. Also before `start`."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> list[str]:
        """Wait for its end after `terminate`; what was wrong about that."""
        self._http.close()
        if self._process is None:
            return []
        try:
            status = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return [f"{self.name} did not end within {STOP_SECONDS_MAX} s of SIGTERM and was killed"]
        too_early = status == -signal.SIGTERM and not self.is_ready  # it does not listen to signals yet
        return [f"{self.name} ended by {_ending(status)} on SIGTERM"] if status and not too_early else []

    def answers(self, path: str, *, token: str = "") -> bool:
        """Whether a GET succeeds."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return self._http.get(path, headers=headers).is_success
        except UNANSWERED:
            return False

    def tasks(self) -> dict[str, int]:
        """Tasks by state, from its metrics; empty while the daemon does not answer."""
        try:
            text = self._http.get("/metrics").text
        except UNANSWERED:
            return {}
        return {
            sample.labels["state"]: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "kling_tasks"
        }

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(
            line if len(line) < 500 else f"{line[:120]} … {line[-360:]}" for line in lines[-TAIL_LINES:]
        )

    def _restart(self, status: int) -> None:
        if status >= 0 and not self.is_ready:
            raise DemoFailed(
                f"{self.name} did not start ({_ending(status)}). Its log ends with:\n{self.log_tail()}"
            )
        self._print_event(
            "restart", f"{self.name} (pid {self.pid}) ended by {_ending(status)}: starting it again"
        )
        self.start()

    def _look_whether_ready(self) -> None:
        seconds = time.monotonic() - self._started_at
        if self.answers("/readyz"):
            self.is_ready = True
            self._print_event("ready", f"{self.name} is ready after {seconds:.1f} s; try: kill -9 {self.pid}")
        elif seconds > START_SECONDS_MAX:
            raise DemoFailed(
                f"{self.name} is not ready after {START_SECONDS_MAX} s. Its log ends with:\n{self.log_tail()}"
            )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment, without the user's own KLING and AWS settings."""
    foreign = ("KLING_", "AWS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**inherited, **settings}


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
