"""Where a download waits on disk until the store has it. Two rules:

1. Space is promised before it is used: the open reservations of all threads together never exceed what the
   file system has free, less a margin. Running full is a hold that says so, and not a half-written asset.
2. A spool file has no name, or is memory. It is made with O_TMPFILE, or unlinked the moment it is made where a
   file system lacks that, so kill -9, a power cut or an OOM kill leaves nothing behind and no start has to clean
   up. The price: `du` does not show the files (`df` and `lsof` do), and nothing can be resumed after a crash, which
   nobody wants, since the next attempt fetches afresh.

Folders we make are 0700. One that an operator named and that is there already keeps its mode: somebody will
point KLING_SPOOL_DIR to /tmp as root, and the files in it are 0600 and nameless anyway.
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

from archiver.failures import SpoolFull, TooLarge

MEMORY_EACH_MAX = 4 * 1024 * 1024
"""A larger file goes to disk even where there is memory."""
BLOCK_BYTES = 256 * 1024
"""Worth a write. Each write to disk hands the interpreter to another thread, so sixteen threads that wrote every chunk
would mostly wait for each other; 64 bodies at once hold only 16 MiB in such blocks."""
MARGIN_BYTES_MAX = 64 * 1024 * 1024
MARGIN_SHARE = 20
"""A twentieth of a small file system, at most 64 MiB, is left to the others who live on it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """What a file system has, in bytes: free for us, and altogether."""

    free: int
    total: int


def disk_space(directory: Path) -> Space:
    """Raises OSError."""
    status = os.statvfs(directory)
    return Space(free=status.f_bavail * status.f_frsize, total=status.f_blocks * status.f_frsize)


class Spool:
    """Hands out reservations, each with its own anonymous file. Safe to share between threads.

    `directory` None means a folder of our own under the system's temporary folder. Folders are made when they
    are needed and not at start: temporary folders get swept, and a missing disk is a hold, not a crash.

    Files of at most `MEMORY_EACH_MAX` stay in memory while they are, all together, within `memory_bytes_max`:
    most images are that small, and on a disk that also holds the ledger every fsync of a commit would write
    them out as well.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        memory_bytes_max: int = 0,
        space: Callable[[Path], Space] = disk_space,
    ) -> None:
        self._directory = directory
        self._own: Path | None = None
        self._memory_bytes_max = memory_bytes_max
        self._memory_bytes = 0
        self._space = space
        self._lock = threading.Lock()
        self._on_disk: set[Reservation] = set()

    @property
    def promised_bytes(self) -> int:
        """Reserved on disk by somebody and not written yet; what is written shows in the free space.

        Added up here, when somebody wants more, and not counted down at each write: sixteen threads that
        meet at one lock for every chunk spend more time there than on their files.
        """
        with self._lock:
            return self._promised()

    def reserve(self, bytes_: int) -> "Reservation":
        """Room for `bytes_`, kept until the reservation is closed.

        Raises SpoolFull when there is no room now, TooLarge when there never will be.
        """
        reservation = Reservation(self)
        try:
            reservation.resize(bytes_)
        except BaseException:
            reservation.close()
            raise
        return reservation

    def grant_memory(self, bytes_: int, *, held: int) -> bool:
        """Whether a file may lie in memory at `bytes_`, where it now has `held`. For reservations."""
        with self._lock:
            granted = (
                bytes_ <= MEMORY_EACH_MAX and self._memory_bytes - held + bytes_ <= self._memory_bytes_max
            )
            if granted:
                self._memory_bytes += bytes_ - held
            return granted

    def give_memory_back(self, bytes_: int) -> None:
        """For reservations."""
        with self._lock:
            self._memory_bytes -= bytes_

    def open_file(self) -> BinaryIO:
        """A nameless file on disk. Raises SpoolFull."""
        try:
            # Unbuffered: a buffer would report a full disk at close, when nobody can act on it.
            return tempfile.TemporaryFile(buffering=0, dir=self._folder())
        except OSError as error:
            raise _failure(error) from error

    def promise(self, reservation: "Reservation", bytes_: int) -> None:
        """Book `bytes_` on disk in all for `reservation`, more or less than before. For reservations."""
        more = bytes_ - reservation.bytes_reserved if reservation in self._on_disk else bytes_
        # Asked outside the lock: a busy disk answers late, and the others need not wait for that. What they write
        # meanwhile is at most what the margin is for.
        space = self._probe() if more > 0 else None
        with self._lock:
            if space is not None:
                _check_room(space, more=more, wanted=bytes_, promised=self._promised())
            reservation.bytes_reserved = bytes_
            self._on_disk.add(reservation)

    def forget(self, reservation: "Reservation") -> None:
        """Nothing is booked on disk for `reservation` any more. For reservations."""
        with self._lock:
            self._on_disk.discard(reservation)

    def _promised(self) -> int:
        return sum(one.bytes_reserved - one.bytes_written for one in self._on_disk)

    def _probe(self) -> Space:
        try:
            return self._space(self._folder())
        except OSError as error:
            raise _failure(error) from error

    def _folder(self) -> Path:
        if self._directory is not None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._directory
        with self._lock:
            if self._own is None or not _is_ours(self._own):
                self._own = _own_folder()
            return self._own


def _check_room(space: Space, *, more: int, wanted: int, promised: int) -> None:
    margin = _margin(space)
    if wanted > space.total - margin:
        raise TooLarge(f"{wanted} bytes will never fit into the spool, which has {space.total} in all")
    free = space.free - margin - promised
    if more > free:
        raise SpoolFull(f"the spool needs {more} bytes more and has {max(free, 0)} to give away")


class Reservation:
    """One asset's room in the spool and the file that fills it. Closing gives both back; closing twice is
    harmless. Used by one thread at a time."""

    def __init__(self, spool: Spool) -> None:
        self.file: BinaryIO = io.BytesIO()
        """In memory at first; another one, on disk, from the resize on that it has grown too large in."""
        self.bytes_reserved = 0
        """The whole promise, written bytes included."""
        self.bytes_written = 0
        self._spool = spool
        self._in_memory = True
        self._closed = False

    def resize(self, bytes_: int) -> None:
        """Grow to `bytes_`, or shrink to what has been written at the least. Raises SpoolFull, TooLarge; the
        reservation is then as it was."""
        bytes_ = max(bytes_, self.bytes_written)
        if not self._in_memory:
            self._spool.promise(self, bytes_)
        elif self._spool.grant_memory(bytes_, held=self.bytes_reserved):
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
        self._spool.give_memory_back(held)
        self.write(memory.read())

    @property
    def is_in_memory(self) -> bool:
        """Whether the file may be written `in_place`, as it is reserved now."""
        return self._in_memory

    @contextlib.contextmanager
    def in_place(self) -> Iterator[memoryview]:
        """All that is reserved in memory, to be filled without a copy; the file is what it holds when the block ends.

        Only for a file that is in memory, and nothing of it written yet.
        """
        self.file = io.BytesIO(bytes(self.bytes_reserved))
        with self.file.getbuffer() as room:
            yield room
        self.bytes_written = self.bytes_reserved

    def write(self, data: bytes | memoryview) -> None:
        """Appends all of `data`; beyond what is reserved, more is reserved first.

        Raises SpoolFull, TooLarge.
        """
        if self.bytes_written + len(data) > self.bytes_reserved:
            self.resize(self.bytes_written + len(data))
        if self._in_memory and not self.bytes_written:
            self.file = io.BytesIO(data)  # shares `data`, where a write would copy it
            self.bytes_written = self.file.seek(0, os.SEEK_END)
            return
        view = memoryview(data)
        while view:
            try:
                count = self.file.write(view)
            except OSError as error:
                raise _failure(error) from error
            view = view[count:]
            self.bytes_written += count

    def close(self) -> None:
        """The file is gone and its room free."""
        if self._closed:
            return
        self._closed = True
        if self._in_memory:
            self._spool.give_memory_back(self.bytes_reserved)
        else:
            self._spool.forget(self)
        # A failure in the midst of `in_place` holds on to the room by its traceback; the memory goes with that.
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


def _failure(error: OSError) -> SpoolFull | TooLarge:
    """No space, no quota, no inode, no descriptor, read-only, gone: each stops every download until somebody
    acts, so each is a hold. Only a file size limit (`ulimit -f`, FAT) concerns this one asset."""
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno == errno.EFBIG:
        return TooLarge(f"the spool's file system takes no file this large ({reason})")
    return SpoolFull(f"the spool cannot be written ({reason})")


def _own_folder() -> Path:
    """A fixed name, so that killed processes do not leave a folder each; unless somebody else sits on it."""
    fixed = Path(tempfile.gettempdir()) / f"kling-archiver-spool-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        fixed.mkdir(mode=0o700)
    return fixed if _is_ours(fixed) else Path(tempfile.mkdtemp(prefix="kling-archiver-spool-"))


def _is_ours(directory: Path) -> bool:
    """A real folder (no link), owned by us and closed to everybody else."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.getuid()
        and not stat.S_IMODE(status.st_mode) & 0o077
    )
