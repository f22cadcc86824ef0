"""A Docker engine of this run's own, with its socket and its files in a folder."""

import os
import pathlib
import shutil
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.deploy import compose

NEEDED = ("dockerd", "docker", "caddy")
NO_TRACE = ("--iptables=false", "--ip-forward=false", "--bridge=none")
"""It leaves the network of this machine as it was. Compose makes the one bridge that it needs, and removes it."""
SECONDS_MAX = 300


def missing() -> list[str]:
    """Of the programs that Compose takes."""
    found = [name for name in NEEDED if shutil.which(name) is None]
    return found if compose.command() else [*found, "docker-compose"]


class Engine:
    """A context manager."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        self._host = f"unix://{folder}/socket"
        places = [f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["dockerd", *places, *NO_TRACE, f"--host={self._host}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + SECONDS_MAX
        while self.run("docker", "version").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"dockerd does not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def run(
        self, *command: str, cwd: pathlib.Path | None = None, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A client of it."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | {"DOCKER_HOST": self._host},
            input=given,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
