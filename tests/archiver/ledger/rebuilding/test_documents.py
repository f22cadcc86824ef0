"""Amendments, requests and `incomplete.json`: what a rebuild takes from each document."""

import dataclasses
import json
from typing import Any

import pytest

from archiver.archive.manifest import INCOMPLETE_NAME
from archiver.model import State
from tests.harness.archived_tasks import ArchivedTask
from tests.harness.fake_store import FakeStore
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START, Desk, answer, asset
from tests.harness.rebuilt import counted, rebuild, task, unworked


def test_an_archived_task_gets_the_amendments_that_an_old_copy_of_the_ledger_lacks(
    desk: Desk, store: FakeStore
) -> None:
    lies = task()
    lies.put(store)
    rebuild(desk, store)
    again = FakeStore()
    lies.put(again, amended=2)

    counts, _ = rebuild(desk, again)

    assert counted(counts) == {"folders": 1, "amended": 1}
    shown = desk.shown()
    assert [key.rpartition("/")[2] for key in shown["amendment_keys"]] == [
        "amendment-1.json",
        "amendment-2.json",
    ]
    assert [file["name"] for file in shown["assets"]] == ["0.png", "1.png", "2.png"]
    assert unworked(desk)


def asked_for(lies: ArchivedTask, store: FakeStore, **said: Any) -> None:
    """Put the task with a manifest that says this."""
    lies.put(store)
    store.vanish(f"{lies.folder}manifest.json")
    manifest = dataclasses.replace(lies.manifest(lies.asset(0)), **said)
    lies.put_object(store, "manifest.json", manifest.to_bytes())


@pytest.mark.parametrize(
    ("has", "filled"),
    [
        ({}, ["external_task_id", "request"]),
        ({"request": {"prompt": "mine"}}, ["external_task_id"]),
        ({"external_task_id": "mine"}, ["request"]),
        ({"external_task_id": "mine", "request": {"prompt": "mine"}}, []),
    ],
    ids="-".join,
)
def test_an_adopted_task_gets_the_request_and_external_id_that_only_its_manifest_knows(
    desk: Desk, store: FakeStore, has: dict[str, Any], filled: list[str]
) -> None:
    said = {"external_task_id": "order-1", "request": {"prompt": "a lighthouse"}}
    lies = task(created_at=START + 39 * DAY)
    asked_for(lies, store, **said)
    lies.record(desk.ledger)
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, **has)

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "completed" if filled else "known": 1}, [])
    found, shown = desk.ledger.views.show("t", account=ACCOUNT), desk.shown()
    assert found is not None
    assert {"external_task_id": found.external_task_id, "request": found.request} == said | has
    assert (shown["history"][-1]["detail"] == f"from its manifest: {', '.join(filled)}") == bool(filled)
    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "known": 1}


def test_a_request_that_was_registered_after_the_manifest_survives_a_rebuild(
    desk: Desk, store: FakeStore
) -> None:
    task().put(store)
    desk.ledger.registrations.register("t", account=ACCOUNT, family=FAMILY, request={"prompt": "mine"})
    desk.clock.advance(40 * DAY)

    assert counted(rebuild(desk, store)[0]) == {"folders": 1, "added": 1}
    assert json.loads(desk.row()["request"]) == {"prompt": "mine"}


def test_an_amendment_that_the_daemon_is_about_to_find_is_left_to_it(desk: Desk, store: FakeStore) -> None:
    lies = task(created_at=START + 39 * DAY)
    lies.put(store)
    rebuild(desk, store)
    desk.say(answer(created_at=lies.created_at, assets=(asset(), asset("1"))))
    again = FakeStore()
    lies.put(again, amended=1)

    counts, _ = rebuild(desk, again)

    assert counted(counts) == {"folders": 1, "known": 1}
    assert desk.shown()["amendment_keys"] == []


def test_a_lost_task_with_some_files_is_lost_again_and_not_tried(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put_object(store, "0.png", lies.content(0))
    lies.put_object(store, INCOMPLETE_NAME, lies.manifest(lies.asset(0), missing="1").to_bytes())

    counts, problems = rebuild(desk, store)

    assert (counted(counts), problems) == ({"folders": 1, "added": 1, "lost": 1}, [])
    shown = desk.shown()
    assert (shown["state"], shown["reason"], shown["manifest_key"]) == ("lost", "asset_gone", None)
    assert [(file["stem"], file["stored"], file["reason"]) for file in shown["assets"]] == [
        ("0", True, None),
        ("1", False, "asset_gone"),
    ]
    assert desk.row()["unseen_since"] is None
    assert unworked(desk)


def test_a_manifest_beside_incomplete_json_wins(desk: Desk, store: FakeStore) -> None:
    lies = task()
    lies.put_object(store, INCOMPLETE_NAME, lies.manifest(lies.asset(0), missing="1").to_bytes())
    lies.put(store, files=2)

    rebuild(desk, store)

    assert desk.state() is State.ARCHIVED
