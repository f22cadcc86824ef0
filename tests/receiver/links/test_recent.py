"""Files that were found in the last seconds."""

import pathlib

from archiver.ledger import FileView
from receiver.links import recent
from receiver.links.recent import SECONDS, Recent
from tests.harness.ledgers import Clock
from tests.harness.links import ScriptedStore, link_of, record_stored, serving


def test_a_file_is_found_again_for_some_seconds_and_the_number_of_files_is_bounded() -> None:
    clock = Clock(0)
    found: Recent[str] = Recent(monotonic=lambda: clock() / 1000)
    found.put("a", "A")
    clock.advance(int(SECONDS * 1000) - 1)
    within = found.get("a")
    clock.advance(1)
    for number in range(recent.FILES_MAX + 10):
        found.put(number, "B")

    assert (within, found.get("a"), found.get("never")) == ("A", None, None)
    assert (found.get(9), found.get(10)) == (None, "B")
    assert len(found._found) == recent.FILES_MAX  # noqa: SLF001 -- what it keeps


def test_a_burst_for_one_file_asks_once_for_each_method_and_never_for_what_is_not_stored(
    tmp_path: pathlib.Path,
) -> None:
    store, asked = ScriptedStore(), []

    def find(**given: str) -> FileView | None:
        asked.append(given["task_id"])
        return desk.ledger.ledger.files.find(**given)

    with serving(tmp_path, store, mode="redirect", find=find) as desk:
        record_stored(desk.ledger, b"a picture")
        answers = [desk.ask(method, link_of()) for method in ("GET", "HEAD") for _ in range(5)]
        answers += [desk.get(link_of("unknown")) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [302] * 10 + [404] * 2
    assert asked == ["t", "t", "unknown", "unknown"]
