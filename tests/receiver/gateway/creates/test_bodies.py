"""Bodies of creates that are no JSON object, that lie in the spool, or that hold too much to be kept."""

import json
import pathlib
import threading

import pytest

from archiver.fetch.spool import Spool
from archiver.metrics import CreateResult
from receiver.gateway.creates import reading
from receiver.gateway.creates.body import CreateBody, read
from receiver.gateway.creates.skimming import Skimmed
from receiver.gateway.exchange import (
    RequestBody,
)
from tests.receiver.gateway.creates.gate import CLIENT, Opened, run


def test_a_body_that_is_no_json_object_goes_on_untouched_and_is_counted(gate: Opened) -> None:
    bodies = [b"prompt=a+fox", b'["a"]', b'{"prompt":"a"', b'{"prompt":"\xff"}', b"", b"\x1f\x8b"]

    async def story() -> None:
        async with gate() as it:
            for body in bodies:
                await it.post(body)

            assert it.kling.bodies == bodies
            assert it.count(CreateResult.UNREADABLE) == len(bodies)
            assert it.woken == []

    run(story())


def test_a_spooled_body_is_changed_on_its_way(gate: Opened, tmp_path: pathlib.Path) -> None:
    async def story() -> None:
        async with gate() as it:
            image = b"A" * 3_000_000
            raw = b'{"image":"' + image + b'","callback_url":"' + CLIENT.encode() + b'","n":1}'
            reserved = Spool(tmp_path / "spool").reserve(len(raw))
            reserved.write(raw)
            body = RequestBody(reserved, it.calls)
            await it.creates.handle(it.request(body))
            body.close()

            ours = it.kling.last["callback_url"]
            assert it.kling.bodies[0] == raw.replace(CLIENT.encode(), ours.encode())
            kept = it.told()[1]
            assert isinstance(kept, dict)
            assert kept["image"]["bytes"] == 3_000_000
            assert kept["n"] == 1

    run(story())


def test_a_body_of_many_members_is_read_beside_the_event_loop_or_goes_on_untouched(
    gate: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []

    def noting(skimmed: Skimmed) -> CreateBody:
        readers.append(threading.current_thread())
        return read(skimmed)

    monkeypatch.setattr(reading, "read", noting)

    async def story() -> None:
        async with gate() as it:
            await it.post({"callback_url": CLIENT, "few": "words"})
            await it.post({"callback_url": CLIENT, "many": ["a word"] * 10_000})
            assert [thread is threading.current_thread() for thread in readers] == [True, False]
            assert it.told("t-2")[0] == CLIENT
            await it.post({"callback_url": "http://127.0.0.1/", "many": ["a word"] * 10_000})
            assert it.count(CreateResult.REFUSED_URL) == 1
            body = json.dumps({"callback_url": CLIENT} | {f"name-{n}": n for n in range(1000)}).encode()
            await it.post(body)
            assert it.kling.bodies[-1] == body
            assert it.count(CreateResult.UNREADABLE) == 1

    run(story())


def test_what_is_too_much_to_keep_of_a_request_is_left_out(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            await it.post({"words": ["a b"] * 30_000, "callback_url": CLIENT})
            assert it.told() == (CLIENT, None)
            nested: object = 1
            for _ in range(400):
                nested = {"a": [nested]}
            await it.post({"nested": nested, "callback_url": CLIENT})
            assert it.told("t-2")[0] == CLIENT

    run(story())
