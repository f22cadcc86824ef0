"""Disks that are full."""

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

NO_DISK = "no right to mount a small tmpfs (run as root with CAP_SYS_ADMIN)"
_PIECE_BYTES = 4096


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, *, megabytes: int) -> Iterator[None]:
    """A file system in `folder`, which must be there. Raises CalledProcessError where none can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", folder.name, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: pathlib.Path) -> pathlib.Path:
    """Take every byte; the file that has them."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(_PIECE_BYTES)):
            pass
    return filler
