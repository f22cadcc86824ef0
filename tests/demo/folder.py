"""The demo's one folder. One demo at a time holds it; each begins with an empty one.

The lock is the kernel's (`flock`): a demo killed with -9 leaves none behind. The lock file stays when the folder is
emptied, for two reasons: a waiting demo must wait for the same file, and a folder without it is not ours to empty.
"""

import contextlib
import dataclasses
import fcntl
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.demo.stopping import DemoFailed

NAME = ".demo"
LOCK = "lock"


@dataclasses.dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where everything lies."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def s3(self) -> Path:
        """The S3 server's own folder; its `data` has a folder for each bucket."""
        return self.root / "s3"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def environment(self) -> Path:
        return self.root / "environment"

    def write_environment(self, settings: Mapping[str, str]) -> None:
        """The daemon's settings as shell lines, for running commands beside it."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        self.environment.write_text("".join(lines))


@contextlib.contextmanager
def held(working_folder: Path) -> Iterator[DemoFolder]:
    """Hold an empty folder; it stays afterwards for the user to look at. Raises `DemoFailed`."""
    root = working_folder / NAME
    try:
        _demand_ours(root)
        root.mkdir(exist_ok=True)
        lock = (root / LOCK).open("a")
    except OSError as error:
        raise DemoFailed(f"cannot use the folder {root}: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoFailed(
                f"another demo is running in {root}. End that one with Ctrl-C, or start this one in another folder."
            ) from error
        _empty(root)
        folder = DemoFolder(root)
        folder.s3.mkdir()
        yield folder


def _demand_ours(root: Path) -> None:
    if root.is_dir() and not (root / LOCK).exists() and any(root.iterdir()):
        raise DemoFailed(
            f"{root} is there and was not made by a demo. Move it away, or start in another folder."
        )


def _empty(root: Path) -> None:
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
