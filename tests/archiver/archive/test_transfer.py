"""One asset through the spool: what is asked of the CDN and of the store, and what `bring` returns."""

import dataclasses
import hashlib
import pathlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from archiver.archive.transfer import SUSPECT_AFTER_MS, TransferLimits
from archiver.failures import BodyIncomplete, FetchEnded, LeaseLost, StoreMismatch, TooLarge
from archiver.fetch.fetcher import SECONDS_MAX, FetchedFile
from archiver.ledger.claims import LEASE_SECONDS
from archiver.model import Lease, Role, StoredAsset
from archiver.pulses.pulse import beat
from archiver.pulses.watch import LIMITS
from tests.harness.engine import FAMILY, Engine
from tests.harness.watched import Watched
from tests.simulator import KlingSimulator, faults

SMALL = TransferLimits(image_bytes_max=1000, video_bytes_max=100_000)


@pytest.fixture(scope="module")
def account() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def sim(account: KlingSimulator) -> KlingSimulator:
    """One account for all tests, each of which has tasks of its own."""
    account.clear_faults()
    return account


@pytest.fixture
def engine(sim: KlingSimulator, tmp_path: pathlib.Path) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as running:
        yield running


def claimed(engine: Engine, family: str = FAMILY, **task: object) -> Lease:
    engine.succeeded(family=family, **task)
    return engine.claim()


def bring(
    engine: Engine, lease: Lease, *, sha256: str | None = None, role: Role | None = None
) -> StoredAsset:
    leased = lease.assets[0]
    if role is not None:
        leased = dataclasses.replace(leased, asset=dataclasses.replace(leased.asset, role=role))
    return engine.transfer.bring(lease, leased, folder="folder/", look_first=False, sha256=sha256)


def test_what_comes_back_is_the_object_as_it_lies_there(engine: Engine, sim: KlingSimulator) -> None:
    lease = claimed(engine)
    content = sim.expected_bytes(lease.task_id, "0")

    assert bring(engine, lease) == StoredAsset(
        stem="0",
        name="0.png",
        key="folder/0.png",
        role=Role.IMAGE,
        index=0,
        watermarked=False,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content_type="image/png",
        width=24,
        height=24,
        source_url=lease.assets[0].asset.url,
    )
    assert engine.store.content("folder/0.png") == content


@pytest.mark.parametrize(("image_format", "name"), [("jpeg", "0.jpg"), ("webp", "0.webp")])
def test_the_bytes_give_the_extension_whatever_the_url_ends_in(
    engine: Engine, image_format: str, name: str
) -> None:
    lease = claimed(engine, image_format=image_format)

    assert bring(engine, lease).name == name


@pytest.mark.parametrize("role", [Role.VIDEO, Role.AUDIO, Role.VOICE, Role.OTHER])
def test_video_and_audio_and_unknown_kinds_have_a_limit_of_their_own(
    sim: KlingSimulator, tmp_path: pathlib.Path, role: Role
) -> None:
    with Engine(sim, tmp_path, limits=SMALL) as engine:
        lease = claimed(engine)
        assert bring(engine, lease, role=role).bytes > SMALL.image_bytes_max


@pytest.mark.parametrize("role", [Role.IMAGE, Role.SERIES_IMAGE, Role.ELEMENT])
def test_everything_else_has_the_limit_of_images(
    sim: KlingSimulator, tmp_path: pathlib.Path, role: Role
) -> None:
    with Engine(sim, tmp_path, limits=SMALL) as engine:
        lease = claimed(engine)
        with pytest.raises(TooLarge):
            bring(engine, lease, role=role)
        assert engine.store.objects == {}


def test_without_a_lease_nothing_is_even_fetched(engine: Engine, sim: KlingSimulator) -> None:
    lease = claimed(engine)
    engine.keeper.drop(lease)
    fetched = sim.requests["cdn"]

    with pytest.raises(LeaseLost):
        bring(engine, lease)
    assert sim.requests["cdn"] == fetched


def test_a_put_stops_when_its_lease_ends_while_it_is_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claimed(engine)

    def sending(_operation: str, _key: str) -> tuple[bool, None]:
        engine.clock.advance(seconds=LEASE_SECONDS)
        return True, None

    monkeypatch.setattr(engine.store, "hook", sending)

    with pytest.raises(LeaseLost):
        bring(engine, lease)
    assert engine.store.objects == {}
    assert engine.spool.promised_bytes == 0


def test_a_digest_that_is_asked_for_is_compared_before_anything_is_put(engine: Engine) -> None:
    lease = claimed(engine)

    with pytest.raises(StoreMismatch):
        bring(engine, lease, sha256="0" * 64)
    assert engine.store.objects == {}
    assert engine.spool.promised_bytes == 0


@pytest.mark.parametrize(("ago_ms", "believed"), [(SUSPECT_AFTER_MS - 1, False), (SUSPECT_AFTER_MS, True)])
def test_half_a_file_is_believed_from_an_hour_after_it_was_first_seen(
    engine: Engine, sim: KlingSimulator, ago_ms: int, believed: bool
) -> None:
    lease = claimed(engine)
    content = sim.expected_bytes(lease.task_id, "0")
    half = content[: len(content) // 2]
    sim.fault("cdn", faults.Truncate(with_length=True))
    seen = dataclasses.replace(
        lease.assets[0],
        incomplete_sha256=hashlib.sha256(half).hexdigest(),
        incomplete_at=engine.clock.now() - ago_ms,
    )
    lease = dataclasses.replace(lease, assets=(seen,))

    if believed:
        stored = bring(engine, lease)
        assert (stored.suspect, engine.store.content(stored.key)) == ("incomplete_upstream", half)
    else:
        with pytest.raises(BodyIncomplete):
            bring(engine, lease)
        assert engine.store.objects == {}


def test_files_that_all_come_too_slowly_are_no_hang_of_the_thread_that_fetches_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder work fetches the files of a task one after the other."""
    watched, lease = Watched(), claimed(engine)

    def time_out(*_: object, **__: object) -> FetchedFile:
        watched.pass_seconds(SECONDS_MAX)
        raise FetchEnded("the time for one file was up", host=lease.assets[0].asset.host)

    monkeypatch.setattr(engine.fetcher, "fetch", time_out)
    with watched.pulses.watched("folder-work-loop"):
        for _ in range(6):
            with pytest.raises(FetchEnded):
                bring(engine, lease)
            assert watched.pulses.vital_stalled() == []


def test_a_task_whose_files_come_one_by_one_over_days_is_no_hang_of_the_thread_that_waits_for_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for slots that other tasks have."""
    watched, lease = Watched(), claimed(engine, images=4)
    has_beaten, turn = queue.SimpleQueue[None](), threading.Lock()
    fetch, begun = engine.fetcher.fetch, list[str]()

    def beat_and_tell() -> None:
        beat()
        has_beaten.put(None)

    def after_its_turn(url: str, **options: Any) -> FetchedFile:
        with turn:
            if begun:
                has_beaten.get(timeout=10)  # of the file before
            begun.append(url)
            watched.pass_seconds(LIMITS["archive-work"].seconds / 2)
            return fetch(url, **options)

    monkeypatch.setattr(engine.fetcher, "fetch", after_its_turn)
    monkeypatch.setattr("archiver.archive.stage.beat", beat_and_tell, raising=False)
    with watched.pulses.watched("archive-work"):
        engine.archiver.archive(lease)
        assert watched.stalled() == []
    assert len(begun) == 4
