"""A bucket and a ledger that agree, and ways to make them differ."""

import pathlib
from typing import Any

from archiver.archive.manifest import FILE_NAME
from archiver.audit.objects import ObjectFinding
from archiver.audit.places import Span
from archiver.audit.sample import Sample
from archiver.audit.verification import Verification, VerifiedAccount
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, Desk
from tests.harness.patience import patient


class Audited:
    """A bucket and a ledger that agree, until a test changes something."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.desk = Desk(folder)
        self.store = FakeStore()
        self.read_bytes = 0
        self.clock = 0.0

    def archive(self, task_id: str, *, files: int = 1, amended: int = 0, **of_task: Any) -> ArchivedTask:
        task = ArchivedTask(task_id, **of_task)
        task.put(self.store, files=files, amended=amended)
        task.record(self.desk.ledger, files=files, amended=amended)
        return task

    def spoil(self, key: str, content: bytes) -> None:
        """Other bytes under this key, with what its metadata claimed."""
        found = self.store.objects.pop(key)
        self.store.place(key, content)
        assert found.content != content

    def verification(self, *accounts: VerifiedAccount, **changed: Any) -> Verification:
        values: dict[str, Any] = {
            "span": Span(),
            "sample": Sample(),
            "repair": False,
            "threads": 2,
        }
        return Verification(
            patient(self.store),
            self.desk.ledger,
            accounts or [VerifiedAccount(ACCOUNT, frozenset({ACCOUNT, "former"}), "")],
            now=self.desk.clock,
            on_bytes=self._count,
            clock=lambda: self.clock,
            **values | changed,
        )

    def lines(self, **changed: Any) -> list[str]:
        return [f"{finding.symbol} {finding.key}" for finding in self.verification(**changed).run()]

    def faults(self, **changed: Any) -> list[ObjectFinding]:
        return [finding for finding in self.verification(**changed).run() if finding.is_fault]

    def _count(self, size: int) -> None:
        self.read_bytes += size


def rot(audited: Audited, task: ArchivedTask) -> None:
    content = bytearray(task.content(0))
    content[7] ^= 1
    audited.spoil(task.asset(0).key, bytes(content))


def cut(audited: Audited, task: ArchivedTask) -> None:
    audited.spoil(task.asset(0).key, task.content(0)[:-1])


def lose(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.asset(0).key)


def lose_manifest(audited: Audited, task: ArchivedTask) -> None:
    audited.store.vanish(task.folder + FILE_NAME)


def lose_all(audited: Audited, task: ArchivedTask) -> None:
    for key in [key for key in audited.store.objects if key.startswith(task.folder)]:
        audited.store.vanish(key)


def record_lost(audited: Audited, task_id: str) -> None:
    audited.desk.write(
        "UPDATE tasks SET state = 'lost', queue = 'archive', due_at = NULL, manifest_key = NULL, archived_at = NULL,"
        " reason = 'asset_gone', seen_again_at = NULL WHERE task_id = ?",
        task_id,
    )
