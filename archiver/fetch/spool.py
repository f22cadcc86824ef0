"""Where a download waits until the store has it. Three rules:

1. Space is reserved before it is used: all reservations together fit into the free space, less a margin. So a full
   disk is a hold, never a half-written asset.
2. A spool file lies in memory or has no name: it is made with O_TMPFILE, or unlinked at once. So kill -9, a power cut
   or an OOM kill leaves nothing to clean up. The price: `du` does not show the files (`df` and `lsof` do).
3. Archiving comes first: uploads of clients, which may take an hour, together get at most as much room on disk as they
   leave to downloads, and half of the memory. One upload alone may take any room on disk: else a small spool could not
   hold even one. In a process without downloads, uploads get everything.

The spool folder itself is made with mode 0700, folders above it with the usual mode. An existing one keeps its mode: an
operator may run as root with KLING_SPOOL_DIR=/tmp.
"""

import contextlib
import dataclasses
import errno
import io
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from archiver.failures import SpoolBusy, SpoolFull, SpoolTooSmall, TooLarge

MEMORY_EACH_MAX = 4 * 1024 * 1024
"""A larger file goes to disk even if memory is free."""
BLOCK_BYTES = 256 * 1024
"""The size of one write to disk. Each write releases the GIL, for which sixteen threads contend. 64 such blocks are 16
MiB."""
CHECK_BYTES = 4096
LARGE_BYTES = 256 * 1024 * 1024
"""If there is no room for a larger file, smaller ones may still fit."""
MARGIN_BYTES_MAX = 64 * 1024 * 1024
MARGIN_SHARE = 20
"""A twentieth of the file system, at most 64 MiB, is left to its other users."""

_ADVICE_OF_FOLDER = (
    "KLING_SPOOL_DIR (without it, the system's temporary folder) is missing, is no folder, or may not be written by "
    "this user: correct it, or its owner and mode."
)
_ADVICE_OF_FILES = "Too many files are open: raise the limit of this process (ulimit -n) or of the machine."
_ADVICE_OF_DISK = (
    "Check the disk of KLING_SPOOL_DIR (the message has the system's words), or use a folder on another."
)
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), SpoolFull.what_to_do),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS), _ADVICE_OF_FOLDER
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _ADVICE_OF_FILES),
}
"""What the operator can do, by the system's error number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """Space of a file system, in bytes."""

    free: int
    total: int


def disk_space(directory: Path) -> Space:
    """Raises OSError."""
    status = os.statvfs(directory)
    return Space(free=status.f_bavail * status.f_frsize, total=status.f_blocks * status.f_frsize)


class Spool:
    """Hands out reservations, each with its own anonymous file. Thread-safe.

    `directory` None means a folder of our own in the system's temporary folder. Folders are made when needed, not at
    start: temporary folders get swept, and a missing disk is a hold, not a crash.

    A file of at most `MEMORY_EACH_MAX` stays in memory while all such files fit into `memory_bytes_max`. On the
    ledger's disk, each fsync of a commit would write them out too.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        memory_bytes_max: int = 0,
        has_downloads: bool = True,
        space: Callable[[Path], Space] = disk_space,
    ) -> None:
        self._directory = directory
        self._own: Path | None = None
        self._memory_bytes_max = memory_bytes_max
        self._has_downloads = has_downloads
        self._memory_bytes = 0
        self._upload_memory_bytes = 0
        self._space = space
        self._lock = threading.Lock()
        self._on_disk: set[Reservation] = set()

    @property
    def promised_bytes(self) -> int:
        """Reserved on disk and not written yet. Added up when asked: counting each write down would need the lock."""
        with self._lock:
            return self._promised()

    def reserve(self, bytes_: int, *, is_upload: bool = False) -> "Reservation":
        """`is_upload`: the room is for a client's upload. Raises SpoolFull if there is no room now, TooLarge if there
        never will be."""
        reservation = Reservation(self, is_upload=is_upload)
        try:
            reservation.resize(bytes_)
        except BaseException:
            reservation.close()
            raise
        return reservation

    def check(self) -> None:
        """Write a block and drop it. Raises SpoolFull where that fails, or no room is left to give away."""
        _require_room(self._probe())
        with self.open_file() as file:
            try:
                file.write(bytes(CHECK_BYTES))
            except OSError as error:
                raise failure_of(error) from error

    def unmade_folder(self) -> Path | None:
        """The folder if the first download has yet to make it; this makes nothing. Raises SpoolFull if the folder could
        not be made, or its disk has no room."""
        folder = (self._directory or _fixed_folder()).absolute()
        try:
            if folder.exists():
                return None
            above = next(path for path in folder.parents if path.exists())
            if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
                raise SpoolFull(f"the spool {folder} cannot be made", what_to_do=_ADVICE_OF_FOLDER)
            _require_room(self._space(above))
        except OSError as error:
            raise failure_of(error) from error
        return folder

    def grant_memory(self, reservation: "Reservation", bytes_: int) -> bool:
        """Whether `reservation` may have `bytes_` of memory in all. For reservations."""
        more = bytes_ - reservation.bytes_reserved
        with self._lock:
            is_granted = bytes_ <= MEMORY_EACH_MAX and self._memory_bytes + more <= self._memory_bytes_max
            if reservation.is_upload and self._has_downloads:
                is_granted &= self._upload_memory_bytes + more <= self._memory_bytes_max // 2
            if is_granted:
                self._book_memory(reservation, more)
            return is_granted

    def give_memory_back(self, reservation: "Reservation", bytes_: int) -> None:
        """For reservations."""
        with self._lock:
            self._book_memory(reservation, -bytes_)

    def _book_memory(self, reservation: "Reservation", bytes_: int) -> None:
        self._memory_bytes += bytes_
        if reservation.is_upload:
            self._upload_memory_bytes += bytes_

    def open_file(self) -> BinaryIO:
        """Raises SpoolFull."""
        try:
            # Unbuffered: a buffer would report a full disk at close, too late to act on it.
            return tempfile.TemporaryFile(buffering=0, dir=self._folder())
        except OSError as error:
            raise failure_of(error) from error

    def promise(self, reservation: "Reservation", bytes_: int) -> None:
        """Reserve `bytes_` on disk, in all, for `reservation`. For reservations."""
        more = bytes_ - reservation.bytes_reserved if reservation in self._on_disk else bytes_
        # Outside the lock, because a busy disk answers late. The margin covers what other threads write meanwhile.
        space = self._probe() if more > 0 else None
        with self._lock:
            if space is not None:
                promised = self._promised()
                _check_room(space, more=more, wanted=bytes_, promised=promised)
                if reservation.is_upload and self._has_downloads:
                    self._check_share(reservation, bytes_, left=_free(space, promised) - more)
            reservation.bytes_reserved = bytes_
            self._on_disk.add(reservation)

    def forget(self, reservation: "Reservation") -> None:
        """Free what `reservation` has on disk. For reservations."""
        with self._lock:
            self._on_disk.discard(reservation)

    def _check_share(self, upload: "Reservation", bytes_: int, *, left: int) -> None:
        uploads = [each for each in self._on_disk if each.is_upload and each is not upload]
        if uploads and bytes_ + sum(each.bytes_reserved for each in uploads) > left:
            raise SpoolBusy(
                f"an upload of {bytes_} bytes would leave downloads less than half of the spool's room"
            )

    def _promised(self) -> int:
        return sum(reservation.bytes_reserved - reservation.bytes_written for reservation in self._on_disk)

    def _probe(self) -> Space:
        try:
            return self._space(self._folder())
        except OSError as error:
            raise failure_of(error) from error

    def _folder(self) -> Path:
        if self._directory is not None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._directory
        with self._lock:
            if self._own is None or not _is_ours(self._own):
                self._own = _own_folder()
            return self._own


def _require_room(space: Space) -> None:
    if space.free <= _margin(space):
        raise SpoolFull(
            f"the spool's disk is full: {space.free // 1_000_000} of {space.total // 1_000_000} MB are free"
        )


def _free(space: Space, promised: int) -> int:
    """Bytes of the disk that can still be reserved."""
    return space.free - _margin(space) - promised


def _check_room(space: Space, *, more: int, wanted: int, promised: int) -> None:
    margin = _margin(space)
    if wanted > space.total - margin:
        raise SpoolTooSmall(f"{wanted} bytes will never fit into the spool, which has {space.total} in all")
    free = _free(space, promised)
    if more > free:
        fits_later = more <= free + promised or more > LARGE_BYTES
        kind = SpoolBusy if fits_later and space.free > margin else SpoolFull
        raise kind(f"the spool needs {more} bytes more and has {max(free, 0)} to give away")


class Reservation:
    """Room for one asset or upload, and its file. Not thread-safe. Closing is idempotent."""

    def __init__(self, spool: Spool, *, is_upload: bool = False) -> None:
        self.is_upload = is_upload
        self.file: BinaryIO = io.BytesIO()
        """In memory at first; replaced by a file on disk when it outgrows the memory."""
        self.bytes_reserved = 0
        """Includes the bytes that are written already."""
        self.bytes_written = 0
        self._spool = spool
        self._in_memory = True
        self._closed = False

    def resize(self, bytes_: int) -> None:
        """Grow or shrink, but not below what is written. Raises SpoolFull, TooLarge, and then changes nothing."""
        bytes_ = max(bytes_, self.bytes_written)
        if not self._in_memory:
            self._spool.promise(self, bytes_)
        elif self._spool.grant_memory(self, bytes_):
            self.bytes_reserved = bytes_
        else:
            self._move_to_disk(bytes_)

    def _move_to_disk(self, bytes_: int) -> None:
        held, memory = self.bytes_reserved, self.file
        file = self._spool.open_file()
        try:
            self._spool.promise(self, bytes_)
        except BaseException:
            file.close()
            raise
        memory.seek(0)
        self.file, self._in_memory, self.bytes_written = file, False, 0
        self._spool.give_memory_back(self, held)
        self.write(memory.read())

    @property
    def is_in_memory(self) -> bool:
        """Whether the file is in memory, so that `in_place` is allowed."""
        return self._in_memory

    @contextlib.contextmanager
    def in_place(self) -> Iterator[memoryview]:
        """The memory of an unwritten file, for the caller to fill completely. For speed: see `connections`."""
        self.file = io.BytesIO(bytes(self.bytes_reserved))
        with self.file.getbuffer() as room:
            yield room
        self.bytes_written = self.bytes_reserved

    def write(self, data: bytes | memoryview) -> None:
        """Appends `data`, and reserves more first if needed. Raises SpoolFull, TooLarge."""
        if self.bytes_written + len(data) > self.bytes_reserved:
            self.resize(self.bytes_written + len(data))
        if self._in_memory and not self.bytes_written:
            self.file = io.BytesIO(data)  # shares `data`; a write would copy it
            self.bytes_written = self.file.seek(0, os.SEEK_END)
            return
        view = memoryview(data)
        while view:
            try:
                count = self.file.write(view)
            except OSError as error:
                raise failure_of(error) from error
            view = view[count:]
            self.bytes_written += count

    def close(self) -> None:
        """Drop the file and free its room."""
        if self._closed:
            return
        self._closed = True
        if self._in_memory:
            self._spool.give_memory_back(self, self.bytes_reserved)
        else:
            self._spool.forget(self)
        # After a failure inside `in_place`, the traceback still holds the view; the memory goes with it.
        with contextlib.suppress(BufferError):
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _margin(space: Space) -> int:
    return min(MARGIN_BYTES_MAX, space.total // MARGIN_SHARE)


def failure_of(error: OSError) -> SpoolFull | TooLarge:
    """The failure for a disk error. A limit of file size (`ulimit -f`, FAT) concerns this asset only; every other error
    is a hold, because it stops all downloads."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno == errno.EFBIG:
        return SpoolTooSmall(f"the spool's file system takes no file this large ({reason})")
    message = f"the spool cannot be written ({reason})"
    return SpoolFull(message, what_to_do=_ADVICE.get(error.errno or 0, _ADVICE_OF_DISK))


def _own_folder() -> Path:
    """A folder with a fixed name, so that killed processes do not leave one each; a new name if that folder is not
    ours."""
    fixed = _fixed_folder()
    with contextlib.suppress(FileExistsError):
        fixed.mkdir(mode=0o700)
    return fixed if _is_ours(fixed) else Path(tempfile.mkdtemp(prefix="kling-archiver-spool-"))


def _fixed_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"kling-archiver-spool-{os.getuid()}"


def _is_ours(directory: Path) -> bool:
    """A real folder, no link, owned by us, with no access for others."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not stat.S_IMODE(status.st_mode) & 0o077
    )
