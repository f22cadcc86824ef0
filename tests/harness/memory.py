"""Keep the files of the suite in memory where the machine has room: most of its time was waiting for fsync."""

import os
import pathlib
import tempfile

FREE_BYTES_MIN = 4 * 1024**3
_FOLDER = pathlib.Path("/dev/shm")  # noqa: S108 -- each file and folder in it gets a name of its own, as in /tmp


def keep_temporary_files_in_memory() -> None:
    """Let temporary folders of this process and its children be in memory, unless TMPDIR says where they are.

    The programs still call fsync, so nothing that a test sees changes: no test cuts the power of the machine. Those of
    a loss of power keep a record of what was written and synced.
    """
    if "TMPDIR" not in os.environ and _FOLDER.is_dir() and _has_room() and _takes_attributes():
        os.environ["TMPDIR"] = str(_FOLDER)
        tempfile.tempdir = None  # it is chosen anew when it is asked for


def _has_room() -> bool:
    status = os.statvfs(_FOLDER)
    return status.f_bavail * status.f_frsize >= FREE_BYTES_MIN


def _takes_attributes() -> bool:
    """Swift stores an object's metadata in them; Linux has them there since 6.6."""
    try:
        with tempfile.NamedTemporaryFile(dir=_FOLDER) as file:
            os.setxattr(file.name, "user.probe", b"1")
    except (OSError, AttributeError):
        return False
    return True
