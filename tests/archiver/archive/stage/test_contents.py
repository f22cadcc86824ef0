"""What lies in the bucket once the archive stage is done with a task, and what is counted of it."""

import hashlib
import json

import httpx2
import jsonschema
import pytest

from archiver.archive import manifest
from archiver.failures import (
    FetchFailed,
    ResultsMissing,
    StoreUnreachable,
)
from archiver.kling.credentials import mint_token
from archiver.model import Callback, DiscoveredBy, Status, rfc3339
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.harness.repository import DEPLOY
from tests.simulator import KlingSimulator, faults

DAY = 86_400.0

SCHEMA = json.loads((DEPLOY / "manifest.schema.json").read_text())


def test_images_lie_under_family_day_and_id_and_the_manifest_beside_them(engine: Engine) -> None:
    task_id = engine.succeeded(images=2, watermark=True)

    assert engine.attempt() is None
    engine.assert_archived(task_id)
    assert engine.names(task_id) == [
        "0.png",
        "0.watermark.png",
        "1.png",
        "1.watermark.png",
        "manifest.json",
    ]


def test_the_manifest_says_exactly_what_the_contract_names(engine: Engine) -> None:
    task_id = engine.succeeded(images=1, watermark=True, external_task_id="my order/7")
    engine.clock.advance(seconds=5)
    assert engine.attempt() is None

    sim = engine.sim
    answer = httpx2.get(
        f"{sim.base_url}/v1/{FAMILY}/{task_id}",
        headers={
            "Authorization": f"Bearer {mint_token(sim.access_key, sim.secret_key, now=sim.now_ms() // 1000)}"
        },
    ).json()["data"]
    task, folder = sim.task(task_id), engine.folder(task_id)
    found = engine.manifest(task_id)

    assert found == {
        "schema_version": 1,
        "account": ACCOUNT,
        "family": FAMILY,
        "task_id": task_id,
        "external_task_id": "my order/7",
        "status": "succeed",
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "archived_at": rfc3339(engine.clock.now()),
        "expires_at": rfc3339(task.created_at + 30 * 86_400_000),
        "discovered_by": "callback",
        "assets": [
            {
                "name": f"{stem}.png",
                "key": f"{folder}{stem}.png",
                "index": 0,
                "role": "image",
                "watermarked": watermarked,
                "bytes": len(sim.expected_bytes(task_id, stem)),
                "sha256": hashlib.sha256(sim.expected_bytes(task_id, stem)).hexdigest(),
                "content_type": "image/png",
                "width": 24,
                "height": 24,
                "source_url": sim.url(task_id, stem),
                "suspect": None,
                "stem": stem,
            }
            for stem, watermarked in (("0", False), ("0.watermark", True))
        ],
        "request": None,
        "task": answer,
    }
    jsonschema.validate(found, SCHEMA, format_checker=jsonschema.FormatChecker())


def test_objects_carry_their_type_and_who_they_belong_to(engine: Engine) -> None:
    task_id = engine.succeeded()
    assert engine.attempt() is None

    found = engine.store.head(engine.folder(task_id) + "0.png")
    assert found is not None
    assert (found.content_type, found.task_id, found.family) == ("image/png", task_id, FAMILY)
    assert found.sha256 == hashlib.sha256(engine.sim.expected_bytes(task_id, "0")).hexdigest()


def test_the_manifest_has_a_registrations_request(engine: Engine) -> None:
    task_id = engine.sim.create_task()
    engine.sim.succeed(task_id)
    engine.ledger.registrations.register(
        task_id, account=ACCOUNT, family=FAMILY, request={"prompt": "a lamp"}
    )
    engine.verify(task_id)
    assert engine.attempt() is None

    found = engine.manifest(task_id)
    assert (found["discovered_by"], found["request"]) == ("registration", {"prompt": "a lamp"})


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("audio/text-to-audio", ["audio-0.mp3", "audio-0.wav"]),
        ("videos/text2video", ["video-0.mp4", "video-0.watermark.mp4"]),
    ],
)
def test_every_kind_of_result_is_archived_under_its_name(
    engine: Engine, family: str, names: list[str]
) -> None:
    task_id = engine.succeeded(family=family, watermark=True)

    assert engine.attempt() is None
    assert engine.sim.expected_names(task_id) == names
    engine.assert_archived(task_id, family)


def test_an_asset_that_the_list_names_while_the_task_is_archived_is_in_the_manifest(engine: Engine) -> None:
    family = "images/editing/expand"  # only its list rows carry the watermark
    task_id = engine.succeeded(family=family, watermark=True)
    lease = engine.claim()
    engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True)

    assert engine.attempt(lease) is None
    engine.assert_archived(task_id, family)


@pytest.mark.parametrize("label", ["put 0.png", "list #2"], ids=["while bringing", "after bringing"])
def test_an_asset_that_is_named_at_the_last_moment_is_still_brought_before_the_manifest(
    engine: Engine, label: str
) -> None:
    family = "images/editing/expand"
    task_id = engine.succeeded(family=family, watermark=True)
    engine.act_before(
        label, lambda: engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True)
    )

    assert engine.attempt() is None
    engine.assert_archived(task_id, family)


def test_an_asset_that_is_named_at_the_last_moment_and_unavailable_does_not_undo_stored_files(
    engine: Engine, sim: KlingSimulator
) -> None:
    family = "images/editing/expand"
    task_id = engine.succeeded(family=family, watermark=True)

    def name_and_fail() -> None:
        engine.verify(task_id, family=family, by=DiscoveredBy.SWEEP, listed=True)
        sim.fault("cdn", faults.Raw(500), times=1)

    engine.act_before("list #2", name_and_fail)

    assert isinstance(engine.attempt(), FetchFailed)
    assert [asset["stored"] for asset in engine.show(task_id)["assets"]] == [True, False]
    assert engine.attempt_again() is None
    engine.assert_archived(task_id, family)


def test_files_and_bytes_are_counted_once_they_are_under_a_manifest(engine: Engine) -> None:
    task_id = engine.succeeded(images=2)
    engine.effects.plan["put manifest.json"] = (False, StoreUnreachable("simulated"))
    engine.attempt()
    value = engine.metrics.registry.get_sample_value
    assert value("kling_assets_archived_total", {"family": FAMILY}) is None

    engine.attempt_again()
    assert value("kling_assets_archived_total", {"family": FAMILY}) == 2
    assert value("kling_asset_bytes_total", {"family": FAMILY}) == sum(
        len(engine.sim.expected_bytes(task_id, stem)) for stem in ("0", "1")
    )


def test_the_time_to_the_manifest_is_not_that_to_its_adoption(engine: Engine) -> None:
    task_id = engine.succeeded()
    engine.clock.advance(seconds=60)
    engine.attempt()
    engine.restart(ledger_lost=True)
    engine.verify(task_id)
    engine.clock.advance(seconds=DAY)
    engine.attempt()

    seconds = engine.metrics.registry.get_sample_value("kling_archive_seconds_sum")
    count = engine.metrics.registry.get_sample_value("kling_archive_seconds_count")
    assert seconds is not None
    assert (count, round(seconds / 60)) == (2, 2)


def test_the_name_of_the_manifest_is_the_contracts() -> None:
    assert manifest.FILE_NAME == "manifest.json"


def test_a_task_whose_api_was_down_until_its_deadline_is_archived_when_the_api_answers_again(
    engine: Engine, sim: KlingSimulator
) -> None:
    task_id = sim.create_task()
    sim.process(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.RUNNING, FAMILY)])
    engine.verify(task_id)
    engine.clock.advance(seconds=31 * DAY)
    engine.ledger.deadlines.expire()
    assert engine.show(task_id)["state"] == "lost"
    sim.succeed(task_id)

    assert isinstance(engine.attempt(), ResultsMissing)
    assert engine.refresh()
    assert engine.attempt() is None
    engine.assert_archived(task_id)
