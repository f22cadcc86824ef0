"""A file as boto3 sends it, with what our botocore handlers must know about it."""

import io
from typing import BinaryIO


class Body:
    """A file, the SHA-256 that the signature covers, and whether to send `Expect: 100-continue`."""

    def __init__(self, file: BinaryIO, *, sha256: str, expect_continue: bool) -> None:
        self._file = file
        self.sha256 = sha256
        self.expect_continue = expect_continue

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
