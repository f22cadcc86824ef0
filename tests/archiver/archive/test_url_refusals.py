"""Result URLs that are refused: what their tasks wait for, which others they stop, and what the operator reads."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from archiver.failures import advice
from archiver.fetch.connecting import resolve
from archiver.kling.limiter import Priority
from archiver.model import Callback, DiscoveredBy, Lane, Status
from tests.harness.engine import ACCOUNT, FAMILY, Engine
from tests.simulator import KlingSimulator

NEW = "https://cdn.new.example/0.png"
FAKE = "198.18.0.7"


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as made:
        yield made


def record(engine: Engine, task_id: str, urls: Mapping[str, str]) -> None:
    """What the API says of a task, with other URLs for these assets."""
    task = engine.client.query(FAMILY, task_id, priority=Priority.VERIFY)
    text, assets = json.dumps(task.document), []
    for asset in task.assets:
        url = urls.get(asset.stem, asset.url)
        text = text.replace(json.dumps(asset.url), json.dumps(url))
        assets.append(dataclasses.replace(asset, url=url))
    told = dataclasses.replace(task, assets=tuple(assets), document=json.loads(text))
    engine.ledger.records.record([told], account=ACCOUNT, discovered_by=DiscoveredBy.CALLBACK, rand=0.5)


def succeeded(engine: Engine, *, images: int = 1, **urls: str) -> str:
    """A task that has succeeded, with these URLs (`_0="https://…"`) in place of the simulator's."""
    task_id = engine.sim.create_task(family=FAMILY, images=images)
    engine.sim.succeed(task_id)
    engine.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
    record(engine, task_id, {stem.removeprefix("_"): url for stem, url in urls.items()})
    return task_id


def refresh(engine: Engine, task_id: str, **urls: str) -> None:
    """The API is asked for fresh URLs, and names these."""
    (lease,) = engine.ledger.claims.fresh(account=ACCOUNT, count=1)
    record(engine, task_id, {stem.removeprefix("_"): url for stem, url in urls.items()})
    engine.ledger.outcomes.refreshed(lease, got_urls=True)


def holds(engine: Engine) -> Sequence[Mapping[str, Any]]:
    return [hold.as_json() for hold in engine.ledger.holds.all()]


# --- hosts that the settings do not list -----------------------------------------------------------------


def test_a_host_that_the_list_lacks_is_one_hold_that_names_it_and_the_setting(engine: Engine) -> None:
    task_id = succeeded(engine, _0=NEW)
    engine.attempt()

    (hold,) = holds(engine)
    assert (hold["reason"], hold["stage"], hold["host"]) == ("asset_host_unlisted", "archive", None)
    assert "cdn.new.example" in hold["what_to_do"]
    assert "KLING_ASSET_HOSTS" in hold["what_to_do"]
    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"], shown["attempts"]) == ("succeeded", "asset_host_unlisted", 0)


def test_the_hold_of_unlisted_hosts_names_up_to_ten_and_is_never_probed(engine: Engine) -> None:
    for number in range(12):
        succeeded(engine, _0=f"https://cdn{number}.new.example/0.png")
    for _ in range(12):
        engine.attempt()

    (hold,) = holds(engine)
    assert "cdn9.new.example and others" in hold["what_to_do"]
    assert "cdn10.new.example" not in hold["what_to_do"]
    engine.clock.advance(seconds=3600)
    assert engine.ledger.claims.archive(slots=dict.fromkeys(Lane, 1), count_max=9, account=ACCOUNT) == []
    with pytest.raises(ValueError, match="not enough values"):
        engine.claim()


def test_tasks_on_listed_hosts_go_on_beside_those_on_unlisted_ones(engine: Engine) -> None:
    succeeded(engine, _0=NEW)
    engine.attempt()
    task_id = succeeded(engine)
    assert engine.attempt() is None

    engine.assert_archived(task_id)
    assert len(holds(engine)) == 1


def test_files_of_the_same_task_on_listed_hosts_are_fetched_meanwhile(engine: Engine) -> None:
    task_id = succeeded(engine, images=3, _1=NEW)
    engine.attempt()

    assert engine.names(task_id) == ["0.png", "2.png"]
    assert [asset["reason"] for asset in engine.show(task_id)["assets"]] == [
        None,
        "asset_host_unlisted",
        None,
    ]


def test_a_process_that_begins_to_ask_for_the_account_judges_unlisted_hosts_anew(engine: Engine) -> None:
    task_id = succeeded(engine, _0=NEW)
    engine.attempt()
    engine.restart()
    assert holds(engine) == []
    engine.attempt()
    assert [hold["reason"] for hold in holds(engine)] == ["asset_host_unlisted"]

    engine.asset_hosts = ("new.example",)
    engine.resolver = lambda _host, _port: []
    engine.restart()
    engine.attempt()
    assert holds(engine) == []
    assert engine.show(task_id)["reason"] == "fetch_failed"


def test_a_task_whose_fresh_urls_are_on_a_listed_host_no_longer_waits(engine: Engine) -> None:
    task_id = succeeded(engine, _0=NEW)
    engine.attempt()
    record(engine, task_id, {})
    assert engine.attempt() is None

    engine.assert_archived(task_id)


def test_an_answer_with_other_signatures_on_the_same_unlisted_host_changes_nothing(engine: Engine) -> None:
    task_id = succeeded(engine, _0=NEW)
    engine.attempt()
    record(engine, task_id, {"0": NEW + "?Signature=other"})

    with pytest.raises(ValueError, match="not enough values"):
        engine.claim()


def test_a_lost_task_on_an_unlisted_host_keeps_its_slow_rhythm(engine: Engine) -> None:
    task_id = succeeded(engine, _0=NEW)
    engine.attempt()
    engine.clock.advance(seconds=31 * 86_400)
    engine.ledger.deadlines.expire()
    engine.attempt()
    engine.clock.advance(seconds=3600)
    engine.attempt()

    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("lost", "asset_host_unlisted")


# --- names with addresses that are refused ---------------------------------------------------------------


@pytest.fixture
def misled(engine: Engine) -> Engine:
    """Every name of the CDN has an address of a proxy's fake DNS."""
    engine.asset_hosts = ("new.example",)
    engine.resolver = lambda host, port: [FAKE] if host.endswith("new.example") else resolve(host, port)
    engine.restart()
    return engine


def test_one_url_with_a_refused_address_is_buried_after_a_fresh_one(misled: Engine) -> None:
    task_id = succeeded(misled, _0=NEW)
    misled.attempt()
    assert misled.show(task_id)["state"] == "succeeded"
    refresh(misled, task_id, _0=NEW + "?fresh")
    misled.attempt()

    shown = misled.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "asset_address_refused")
    assert FAKE in shown["message"]
    assert holds(misled) == []


def test_five_tasks_in_a_row_with_refused_addresses_are_a_hold_about_dns_and_none_is_buried(
    misled: Engine,
) -> None:
    tasks = [succeeded(misled, _0=f"https://cdn{number}.new.example/0.png") for number in range(5)]
    for _ in tasks:
        misled.attempt()

    (hold,) = holds(misled)
    assert hold["reason"] == "asset_address_refused"
    assert "DNS" in hold["what_to_do"]
    assert "proxy" in hold["what_to_do"]
    assert "KLING_ASSET_HOSTS" not in hold["what_to_do"]
    for number, task_id in enumerate(tasks[:4]):
        refresh(misled, task_id, _0=f"https://cdn{number}.new.example/0.png?fresh")
        misled.attempt()
    assert {misled.show(task_id)["state"] for task_id in tasks} == {"succeeded"}


def test_a_file_from_anywhere_ends_the_row_of_refused_addresses(misled: Engine) -> None:
    for _ in range(4):
        succeeded(misled, _0=NEW)
        misled.attempt()
    succeeded(misled)
    assert misled.attempt() is None
    succeeded(misled, _0=NEW)
    misled.attempt()

    assert holds(misled) == []


# --- URLs refused for their form ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.new.example/0.png",
        "https://10.0.0.1/0.png",
        "https://[::1]/0.png",
        "https://2130706433/0.png",
        "ftp://cdn.klingai.com/0.png",
        "https://user@cdn.klingai.com/0.png",
        "https://cdn.klingai.com:99999/0.png",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "/0.png",
    ],
)
def test_a_url_refused_for_its_form_is_asked_for_afresh_once_and_then_buried(
    url: str, engine: Engine
) -> None:
    task_id = succeeded(engine, _0=url)
    engine.attempt()
    assert engine.show(task_id)["state"] == "succeeded"
    refresh(engine, task_id, _0=url)
    engine.attempt()

    shown = engine.show(task_id)
    assert (shown["state"], shown["reason"]) == ("buried", "url_refused")
    assert holds(engine) == []


@pytest.mark.parametrize("reason", ["asset_host_unlisted", "url_refused"])
def test_show_names_the_setting_for_hosts_that_are_not_listed(reason: str) -> None:
    assert "KLING_ASSET_HOSTS" in advice.what_to_do(reason)
