"""Which folders a rebuild reads, and how many at once."""

import dataclasses
from collections.abc import Iterator

from archiver.audit.places import Span
from archiver.audit.rebuild import FOLDERS_TOGETHER, Rebuild, RebuiltAccount
from archiver.model import Role
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, START, Desk
from tests.harness.patience import patient
from tests.harness.rebuilt import OURS, counted, rebuild, task


def test_only_the_chosen_account_and_span_are_rebuilt(desk: Desk, store: FakeStore) -> None:
    task("old", account="former").put(store)
    task("new", created_at=START + 2 * DAY).put(store)
    ArchivedTask("other", account="other", prefix="other/").put(store)
    theirs = RebuiltAccount("other", frozenset({"other"}), "other/")

    span, _ = rebuild(desk, store, span=Span(since_day="2026/09/22"))
    both, _ = rebuild(desk, store, OURS, theirs)

    assert counted(span) == {"folders": 1, "added": 1}
    assert counted(both) == {"folders": 3, "added": 2, "known": 1}
    rows = desk.rows("SELECT account, task_id FROM tasks ORDER BY task_id")
    assert [tuple(row.values()) for row in rows] == [
        (ACCOUNT, "new"),
        (ACCOUNT, "old"),
        ("other", "other"),
    ]


def test_sounds_of_manifests_without_stems_get_the_stems_that_the_api_gives_them(
    desk: Desk, store: FakeStore
) -> None:
    lies = task(family="audio/text-to-audio")
    sounds = {"url_mp3": "https://cdn.klingai.com/a.mp3", "url_wav": "https://cdn.klingai.com/a.wav"}
    named = [
        dataclasses.replace(lies.asset(0), stem=name, name=name, key=f"{lies.folder}{name}", role=Role.AUDIO)
        for name in ("audio-0.mp3", "audio-0.wav")
    ]
    document = {"task_id": "t", "task_status": "succeed", "task_result": {"audios": [{"id": "1", **sounds}]}}
    made = dataclasses.replace(lies.manifest(*named), task=document)
    content = b"\n".join(line for line in made.to_bytes().splitlines() if b'"stem"' not in line)
    content = content.replace(b'"suspect": null,', b'"suspect": null')
    lies.put_object(store, "manifest.json", content)
    for each in named:
        lies.put_object(store, each.name, lies.content(0))

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1}, [])
    assert [file["stem"] for file in desk.shown()["assets"]] == ["audio-0.mp3", "audio-0.wav"]


def test_no_more_folders_than_are_asked_about_at_once_are_in_memory(desk: Desk, store: FakeStore) -> None:
    class Counting(FakeStore):
        listed = 0

        def walk(self, prefix: str, *, after: str = "") -> Iterator[tuple[str, int]]:
            for found in super().walk(prefix, after=after):
                self.listed += 1
                yield found

    store = Counting()
    for number in range(2 * FOLDERS_TOGETHER + 1):
        store.place(f"{task(f'{number:04d}').folder}manifest.json", b"{")
    run = Rebuild(patient(store), desk.ledger, (OURS,))
    problems = run.run()
    next(problems)
    listed_at_first = store.listed

    assert sum(1 for _ in problems) == 2 * FOLDERS_TOGETHER
    assert listed_at_first <= FOLDERS_TOGETHER + 1


def test_folders_are_counted_without_reading_any_document(desk: Desk, store: FakeStore) -> None:
    for number in range(3):
        task(f"{number}").put(store)
    store.place("kling/notes.txt", b"x")
    store.hook = lambda operation, _: (operation != "read", None)

    assert Rebuild(patient(store), desk.ledger, (OURS,)).count_folders() == 3
