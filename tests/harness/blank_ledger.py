"""A new ledger's file without its migrations: they run once a process, and every test gets a copy of what they make.

Ten migrations take longer than most tests. `test_file.py` and the daemons' tests run them.
"""

import functools
import pathlib
import tempfile

from archiver.ledger import Ledger


def lay_blank_ledger(path: pathlib.Path) -> None:
    """Put a migrated ledger at `path` that no daemon has ever opened, unless a file is there."""
    if not path.exists():
        path.write_bytes(_blank())


@functools.cache
def _blank() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "ledger.db"
        Ledger.open(f"sqlite:///{path}", daemon=False, create=True).close()
        assert [file.name for file in pathlib.Path(folder).iterdir()] == [path.name], (
            "all of it is in one file"
        )
        return path.read_bytes()
