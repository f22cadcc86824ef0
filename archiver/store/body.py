"""A file as boto3 sends it, with what our botocore handlers must know about it."""

import concurrent.futures
import contextlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

from archiver.failures import SpoolUnreadable


class PutStopped(concurrent.futures.CancelledError):
    """`cause` stopped a put between two pieces of its body.

    botocore passes this kind on, as its own transfer manager needs it. Any other exception of a body counts as a broken
    connection: it would send the whole body again. urllib3 closes the half-used connection at any exception.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def raising_its_cause() -> Iterator[None]:
    """Around a put: what its check raised, instead of `PutStopped`."""
    try:
        yield
    except PutStopped as stopped:
        raise stopped.cause from None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """A disk that fails is no failure of the store."""
    try:
        yield
    except OSError as error:
        raise PutStopped(SpoolUnreadable(f"the spool cannot be read back ({error.strerror})")) from error


class Body:
    """A file, the SHA-256 that the signature covers, and whether to send `Expect: 100-continue`.

    `check` is called before each piece; what it raises stops the put.
    """

    def __init__(
        self, file: BinaryIO, *, sha256: str, expect_continue: bool, check: Callable[[], None]
    ) -> None:
        self._file = file
        self._check = check
        self.sha256 = sha256
        self.expect_continue = expect_continue

    def read(self, size: int = -1) -> bytes:
        try:
            self._check()
        except Exception as error:
            raise PutStopped(error) from error
        with _reading():
            return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _reading():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
