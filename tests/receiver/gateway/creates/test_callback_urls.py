"""The callback URL of a create: the client's own is kept, and ours is sent in its place."""

import json

from archiver.metrics import CreateResult
from receiver.gateway.exchange import (
    GatewayAnswer,
    Source,
)
from tests.receiver.gateway.creates.gate import ACCOUNT, CLIENT, NEW, PUBLIC, TOKEN, Opened, run, said


def test_a_clients_callback_url_is_kept_and_ours_sent_in_its_place(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            body = b'{ "prompt":"a fox", "callback_url": "%b" ,"external_task_id":"e-1"}' % CLIENT.encode()
            answer = await it.post(body)

            assert json.loads(answer.body)["data"]["task_id"] == "t-1"  # type: ignore[arg-type]
            ours = it.kling.last["callback_url"]
            assert ours.startswith(f"{PUBLIC}/callbacks/{TOKEN}.")
            assert ours.endswith("/images/generations")
            assert it.kling.bodies == [body.replace(CLIENT.encode(), ours.encode())]
            assert it.told() == (CLIENT, {"prompt": "a fox"})
            assert it.open_references() == []
            assert it.woken == [ACCOUNT]
            assert it.ledger.registrations.known("e-1", account=ACCOUNT) is not None
            assert it.count(CreateResult.REGISTERED) == 1

    run(story())


def test_the_new_standard_has_its_callback_url_in_options_and_its_id_under_id(gate: Opened) -> None:
    async def story() -> None:
        async with gate(said(data={"id": "n-1", "status": "submitted"})) as it:
            await it.post({"contents": [], "options": {"callback_url": CLIENT, "external_task_id": "e"}}, NEW)

            assert it.kling.last["options"]["callback_url"].endswith("/tasks/video")
            assert it.told("n-1") == (CLIENT, {"contents": [], "options": {}})

    run(story())


def test_a_create_without_a_callback_url_gets_one_of_ours_and_queues_no_forward(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            for body in (b'{"prompt":"a"}', b'{"prompt":"a","callback_url":""}'):
                await it.post(body)
                assert it.kling.last["callback_url"] == f"{PUBLIC}/callbacks/{TOKEN}/images/generations"
            assert it.told("t-1") == it.told("t-2") == (None, {"prompt": "a"})

    run(story())


REFUSED_URLS = [
    (17, "string"),
    (None, "string"),
    (["https://app.example.com"], "string"),
    ("ftp://app.example.com/", "neither https nor http"),
    ("http://app.example.com/", "plain http"),
    ("https://user:secret@app.example.com/", "user name"),
    ("https://127.0.0.1/", "IP address"),
    ("https://[::1]/", "IP address"),
    ("https://0x7f000001/", "IP address"),
    ("https://2130706433/", "IP address"),
    ("https://localhost:9/", "this machine"),
    ("https://app.example.com/\r\nX-Injected: 1", "control character"),
    ("https://app.example.com/\n", "control character"),
    ("https://app.example.com\\@127.0.0.1/", "backslash"),
    ("javascript:alert(1)", "absolute"),
    ("app.example.com/cb", "absolute"),
    ("https://app.example.com/" + "x" * 20_000, "at most 8192 bytes"),
]


def test_a_callback_url_that_we_would_not_call_is_refused_and_kling_is_not_asked(gate: Opened) -> None:
    async def story() -> None:
        async with gate() as it:
            for value, named in REFUSED_URLS:
                given = json.dumps(value)
                for body in (
                    f'{{"callback_url":{given}}}',
                    f'{{"options":{{"callback_url":{given}}}}}',
                    f'{{"callback_url":{given},"callback_url":"{CLIENT}"}}',
                ):
                    answer = await it.post(body.encode())

                    assert (answer.status, answer.source) == (400, Source.GATEWAY), body
                    assert isinstance(answer.body, bytes)
                    said = json.loads(answer.body)
                    assert said["code"] == 1201
                    assert "callback_url" in said["message"]
                    assert named in said["message"]
                    assert "secret" not in said["message"]
            assert it.kling.bodies == []
            assert it.open_references() == []

    run(story())


def test_a_callback_url_that_leads_to_us_is_none_of_a_clients(gate: Opened) -> None:
    """It is what an application named that asked Kling directly before."""
    ours = f"{PUBLIC}/callbacks/a-callback-token-of-24-chars/images/generations"

    async def story() -> None:
        async with gate() as it:
            for number, url in enumerate(
                [ours, ours.replace("kling.example.com", "KLING.example.com:443")], 1
            ):
                await it.post({"callback_url": url})
                assert it.kling.last["callback_url"] == f"{PUBLIC}/callbacks/{TOKEN}/images/generations"
                assert it.told(f"t-{number}")[0] is None
            await it.post({"callback_url": ours, "options": {"callback_url": CLIENT}})
            assert it.told("t-3")[0] == CLIENT
            await it.post({"callback_url": f"{PUBLIC}/our-app"})
            assert it.told("t-4")[0] == f"{PUBLIC}/our-app"

    run(story())


def test_an_origin_of_the_settings_may_be_private_and_plain(gate: Opened) -> None:
    async def story() -> None:
        async with gate(hosts=["http://127.0.0.1:9000"]) as it:
            await it.post({"callback_url": "http://127.0.0.1:9000/cb"})
            assert it.told()[0] == "http://127.0.0.1:9000/cb"

    run(story())


def test_where_our_url_stands_in_an_answer_the_clients_own_is_put_back(gate: Opened) -> None:
    def echo(body: bytes) -> GatewayAnswer:
        ours = json.loads(body)["callback_url"]
        escaped = ours.replace("/", "\\/")
        text = (
            f'{{"code": 0,"message":"will call {ours}",'
            f'"data":{{ "task_id":"t-1","task_info":{{"callback_url" : "{escaped}"}}}}}}'
        )
        return GatewayAnswer(200, [], text.encode(), Source.KLING)

    async def story() -> None:
        async with gate(echo, echo) as it:
            answer = await it.post({"callback_url": CLIENT})
            assert isinstance(answer.body, bytes)
            assert answer.body.decode() == (
                f'{{"code": 0,"message":"will call {CLIENT}",'
                f'"data":{{ "task_id":"t-1","task_info":{{"callback_url" : "{CLIENT}"}}}}}}'
            )
            answer = await it.post({})
            assert isinstance(answer.body, bytes)
            assert TOKEN.encode() not in answer.body

    run(story())
