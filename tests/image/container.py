"""A container as an engine makes it: a root of overlayfs, process 1 of its own, an ordinary user, no privileges."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

SECONDS_MAX = 60
MOUNTS = """\
set -e
mount -t overlay overlay -o "lowerdir=$IMAGE,upperdir=$AREA/upper,workdir=$AREA/scratch" "$AREA/merged"
mount -t proc proc "$AREA/merged/proc"
mount --rbind /dev "$AREA/merged/dev"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$AREA/merged/tmp"
if [ -n "$DATA" ]; then mount --bind "$DATA" "$AREA/merged/data"; fi
if [ -n "$READ_ONLY" ]; then mount -o remount,ro "$AREA/merged"; fi
exec setpriv --no-new-privs unshare --root="$AREA/merged" --wd=/data --setgid="$GROUP" --setuid="$USER" env -i "$@"
"""
"""As root, in namespaces of its own. What `exec` becomes is process 1."""


class Container:
    """One that runs the image's command. A context manager."""

    def __init__(
        self,
        image: pathlib.Path,
        config: Mapping[str, Any],
        *,
        work: pathlib.Path,
        settings: Mapping[str, str],
        data: pathlib.Path | None,
        read_only: bool,
    ) -> None:
        self.log = work / "log"
        self._user, _, self._group = config["User"].partition(":")
        self._environment = [*config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        for name in ("upper", "scratch", "merged"):
            (work / name).mkdir(parents=True)
        if data is not None:
            os.chown(data, int(self._user), int(self._group))
        given = {
            "PATH": os.environ["PATH"],
            "IMAGE": str(image),
            "AREA": str(work),
            "DATA": str(data or ""),
            "READ_ONLY": "yes" if read_only else "",
            "USER": self._user,
            "GROUP": self._group,
        }
        namespaces = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        command = [*namespaces, "sh", "-c", MOUNTS, "sh", *self._environment, *config["Cmd"]]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=given, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Process 1 first: it has changed its user, and so does not get the signal of --kill-child.
        with contextlib.suppress(IndexError, OSError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Of its process 1, as this machine counts."""
        return int(self._children()[0])

    @property
    def ended(self) -> int | None:
        """The exit status, once there is one."""
        return self._process.poll()

    def _children(self) -> list[str]:
        """Of `unshare`: process 1, once there is one."""
        task = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        return pathlib.Path(task).read_text().split()

    def status(self) -> dict[str, str]:
        """/proc/PID/status of process 1."""
        lines = pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec`."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--root", "--wd"]
        user = [f"--setgid={self._group}", f"--setuid={self._user}"]
        words = [*inside, *user, "env", "-i", *self._environment, *command]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=SECONDS_MAX)

    def stop(self) -> int | None:
        """SIGTERM to process 1, as `docker stop`. The exit status; None if it did not end in time."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int | None:
        """The exit status; None if it did not end in time."""
        try:
            return self._process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return None

    def wait_for(self, command: Sequence[str]) -> bool:
        """Whether `command` succeeds inside, sooner or later. False as soon as the container has ended."""
        deadline = time.monotonic() + SECONDS_MAX
        while self.ended is None and time.monotonic() < deadline:
            if self._children() and self.run(*command).returncode == 0:
                return True
            time.sleep(0.2)
        return False
