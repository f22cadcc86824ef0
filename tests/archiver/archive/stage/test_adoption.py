"""What an earlier attempt left in the bucket: a manifest, objects of ours, objects of others."""

import hashlib
import json
from collections.abc import Callable

import pytest

from archiver.archive import transfer
from archiver.archive.manifest import ManifestUnreadable
from archiver.failures import (
    AssetGone,
    BodyIncomplete,
    ForeignObject,
    LeaseLost,
    StoreMismatch,
    advice,
)
from archiver.model import DiscoveredBy
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.simulator import KlingSimulator, faults

HOUR = 3600.0


def archived_then_forgotten(engine: Engine, family: str = FAMILY, **task: object) -> str:
    """A task that is whole in the bucket and new to the ledger."""
    task_id = engine.succeeded(family=family, **task)
    assert engine.attempt() is None
    engine.restart(ledger_lost=True)
    engine.clock.advance(seconds=HOUR)
    engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP)
    return task_id


@pytest.mark.parametrize("family", [FAMILY, "audio/text-to-audio"])
def test_a_lost_ledger_is_filled_from_manifests_without_a_single_fetch(
    engine: Engine, sim: KlingSimulator, family: str
) -> None:
    task_id = archived_then_forgotten(engine, family)
    fetched, before = sim.requests["cdn"], engine.manifest(task_id, family)

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)
    assert sim.requests["cdn"] == fetched
    assert engine.manifest(task_id, family) == before


@pytest.mark.parametrize(("family", "name"), [(FAMILY, "0.png"), ("audio/text-to-audio", "audio-0.wav")])
def test_a_missing_object_that_its_manifest_names_is_fetched_again(
    engine: Engine, family: str, name: str
) -> None:
    task_id = archived_then_forgotten(engine, family)
    engine.store.vanish(engine.folder(task_id, family) + name)

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)


def test_an_object_that_only_the_listing_misses_is_not_fetched_again(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    fetched = sim.requests["cdn"]
    engine.store.unlisted.add(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    assert sim.requests["cdn"] == fetched


def test_a_missing_object_whose_url_is_dead_is_fetched_from_a_fresh_one(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    engine.store.vanish(engine.folder(task_id) + "0.png")
    sim.fault("cdn", faults.Html(404), times=1)

    assert isinstance(engine.attempt(), AssetGone)
    engine.clock.advance(seconds=60)
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)


def test_other_bytes_are_not_put_in_the_place_of_what_the_manifest_names(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = archived_then_forgotten(engine)
    engine.store.vanish(engine.folder(task_id) + "0.png")
    other = sim.expected_bytes(engine.sim.create_task(), "0")
    sim.fault("cdn", faults.Raw(200, other), times=1)

    assert isinstance(engine.attempt(), StoreMismatch)
    assert engine.names(task_id) == ["manifest.json"]
    assert engine.attempt_again() is None
    engine.assert_archived(task_id)


def test_a_suspect_object_that_its_manifest_names_is_brought_back_at_once(
    engine: Engine, sim: KlingSimulator
) -> None:
    half = faults.Truncate(with_length=True)
    sim.fault("cdn", half)
    task_id = engine.succeeded()
    engine.attempt()
    engine.clock.advance(seconds=HOUR)
    assert engine.attempt() is None
    engine.restart(ledger_lost=True)
    engine.verify(task_id)
    engine.store.vanish(engine.folder(task_id) + "0.png")

    assert engine.attempt() is None
    assert engine.names(task_id) == ["0.png", "manifest.json"]


def test_after_a_lost_ledger_an_adopted_task_has_every_value_of_its_manifest(engine: Engine) -> None:
    task_id = engine.sim.create_task()
    request = {"prompt": "a lighthouse"}
    engine.ledger.registrations.register(
        task_id, account=ACCOUNT, family=FAMILY, external_task_id="order-1", request=request
    )
    engine.sim.succeed(task_id)
    engine.verify(task_id)
    assert engine.attempt() is None
    before = engine.show(task_id)

    engine.restart(ledger_lost=True)
    engine.verify(task_id, by=DiscoveredBy.SWEEP)
    assert engine.attempt() is None

    after = engine.show(task_id)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"history", "discovered_by", "callbacks"}
    found = engine.ledger.views.show(task_id, account=ACCOUNT)
    assert found is not None
    assert (found.external_task_id, found.request) == ("order-1", request)


def test_a_manifest_that_lists_show_late_is_adopted_and_not_replaced(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    before = engine.manifest(task_id)
    engine.store.unlisted.add(engine.folder(task_id) + "manifest.json")

    assert engine.attempt() is None
    assert engine.manifest(task_id) == before
    assert engine.show(task_id)["state"] == "archived"


@pytest.mark.parametrize(
    "change",
    [{"task_id": "another"}, {"family": "images/omni-image"}, {"account": "somebody-else"}, {"assets": []}],
    ids=lambda change: next(iter(change)),
)
def test_a_manifest_of_something_else_buries_the_task_loudly(
    engine: Engine, logged: Callable[[], list[str]], change: dict[str, str]
) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    foreign = json.dumps(engine.manifest(task_id) | change).encode()
    engine.store.place(key, foreign)

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.show(task_id)["state"] == "buried"
    assert engine.store.content(key) == foreign
    assert logged() == ["task.buried"]


def test_a_manifest_that_names_an_object_outside_of_its_folder_buries_the_task_loudly(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    found = engine.manifest(task_id)
    engine.store.place("elsewhere/0.png", b"12345")
    found["assets"][0] |= {"key": "elsewhere/0.png", "bytes": 5}
    engine.store.place(key, foreign := json.dumps(found).encode())

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.show(task_id)["state"] == "buried"
    assert engine.store.content(key) == foreign


def test_a_manifest_with_a_former_name_of_the_account_is_adopted(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    found = engine.manifest(task_id) | {"account": "its-old-name"}
    engine.store.place(engine.folder(task_id) + "manifest.json", json.dumps(found).encode())
    engine.former_names = ("its-old-name",)
    engine.restart()

    assert engine.attempt() is None
    assert engine.show(task_id)["state"] == "archived"


def test_a_manifest_of_another_account_names_the_setting_for_former_names(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    content = {**engine.manifest(task_id), "account": "its-old-name"}
    key = engine.folder(task_id) + "manifest.json"
    engine.store.place(key, json.dumps(content).encode(), task_id=task_id)

    engine.attempt()
    assert "KLING_ACCOUNT_FORMER_NAMES" in advice.what_to_do(engine.show(task_id)["reason"])


def test_a_missing_object_that_kling_no_longer_names_is_reported_with_what_to_do(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    content = engine.manifest(task_id)
    key = engine.folder(task_id)
    content["assets"].append({**content["assets"][0], "name": "7.png", "key": key + "7.png"})
    engine.store.place(key + "manifest.json", json.dumps(content).encode(), task_id=task_id)

    engine.attempt()
    assert "put the object back" in advice.what_to_do(engine.show(task_id)["reason"])


def test_an_invalid_manifest_is_left_for_an_operator(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "manifest.json"
    engine.store.place(key, b"{}")

    assert isinstance(engine.attempt(), ManifestUnreadable)
    assert engine.store.content(key) == b"{}"
    assert engine.show(task_id)["state"] == "succeeded"


def test_an_object_of_another_size_than_its_manifest_says_is_foreign(engine: Engine) -> None:
    task_id = archived_then_forgotten(engine)
    key = engine.folder(task_id) + "0.png"
    engine.store.place(key, b"shorter")

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.store.content(key) == b"shorter"


def test_other_bytes_of_an_earlier_attempt_are_adopted_as_they_lie_there(engine: Engine) -> None:
    task_id = engine.succeeded()
    key = engine.folder(task_id) + "0.png"
    earlier = engine.sim.expected_bytes(engine.sim.create_task(), "0") + b"trailing"
    engine.store.place(key, earlier, task_id=task_id)

    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert engine.store.content(key) == earlier
    assert (asset["bytes"], asset["sha256"]) == (len(earlier), hashlib.sha256(earlier).hexdigest())
    assert (asset["width"], asset["height"], asset["suspect"]) == (24, 24, None)
    engine.assert_clean()


@pytest.mark.parametrize("read_back_bytes_max", [transfer.READ_BACK_BYTES_MAX, 10])
def test_a_cut_file_of_an_earlier_attempt_is_marked_although_the_whole_one_comes_now(
    engine: Engine, sim: KlingSimulator, monkeypatch: pytest.MonkeyPatch, read_back_bytes_max: int
) -> None:
    monkeypatch.setattr(transfer, "READ_BACK_BYTES_MAX", read_back_bytes_max)
    task_id = engine.succeeded()
    cut = sim.expected_bytes(task_id, "0")[:-40]
    sim.fault("cdn", faults.Raw(200, cut))
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.clock.advance(seconds=HOUR + 60)
    engine.effects.plan["put 0.png"] = (True, LeaseLost("taken over between the put and the settling"))
    assert isinstance(engine.attempt(), LeaseLost)
    sim.clear_faults()

    engine.clock.advance(seconds=1200)
    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert engine.store.content(asset["key"]) == cut
    assert asset["suspect"] == "incomplete_upstream"


def test_a_whole_file_of_an_earlier_attempt_is_not_marked_although_a_cut_one_comes_now(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = engine.succeeded()
    whole = sim.expected_bytes(task_id, "0")
    sim.fault("cdn", faults.Raw(200, whole[:-40]))
    assert isinstance(engine.attempt(), BodyIncomplete)
    engine.store.place(engine.folder(task_id) + "0.png", whole, task_id=task_id)

    engine.clock.advance(seconds=HOUR + 60)
    assert engine.attempt() is None
    (asset,) = engine.manifest(task_id)["assets"]
    assert (asset["bytes"], asset["suspect"]) == (len(whole), None)


def test_a_foreign_object_under_our_key_buries_the_task_loudly_and_stays(
    engine: Engine, logged: Callable[[], list[str]]
) -> None:
    task_id = engine.succeeded(images=2)
    key = engine.folder(task_id) + "1.png"
    engine.store.place(key, b"somebody else's")

    assert isinstance(engine.attempt(), ForeignObject)
    assert engine.store.content(key) == b"somebody else's"
    assert engine.names(task_id) == ["0.png", "1.png"]
    assert engine.show(task_id)["state"] == "buried"
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    assert logged() == ["task.buried"]
