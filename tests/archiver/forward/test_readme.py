"""The consumer of receiver/README.md takes what is really sent, and refuses what is not signed."""

import http.server
import pathlib
import re
import textwrap
import threading
from collections.abc import Iterator

import pytest

from archiver.fetch.urls import vet_own
from archiver.webhooks.sender import UNSIGNED, Signing, WebhookSender
from tests.harness.consumer import SECRET
from tests.harness.repository import ROOT

BODY = '{"archive": {"state": "archived", "task_id": "t", "objects": [{"url": "https://a.example.com/files/0.png"}]}}'


def consumer_of_readme() -> str:
    text = (ROOT / "receiver/README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- consumer: .*?-->\n(.*?)\n\n\S", text, re.DOTALL)
    assert found is not None
    return textwrap.dedent(found[1])


@pytest.fixture
def url(tmp_path: pathlib.Path) -> Iterator[str]:
    """Where it listens: on a free port, and with a secret."""
    code = consumer_of_readme().replace("whsec_…", SECRET).replace("8000", "0")
    *start, last = code.strip().splitlines()
    server_expression, called, _ = last.partition(".serve_forever()")
    assert called
    scope: dict[str, object] = {}
    source = "\n".join([*start, f"server = {server_expression}"])
    exec(compile(source, str(tmp_path / "consumer.py"), "exec"), scope)  # noqa: S102 -- the README's own lines
    server = scope["server"]
    assert isinstance(server, http.server.ThreadingHTTPServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_consumer_of_the_readme_takes_each_event_once(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = WebhookSender()
    for message_id in ("fwd_1", "fwd_1", "fwd_2"):
        signing = Signing([SECRET])
        assert sender.post(vet_own(url), message_id=message_id, body=BODY, signing=signing) == 204
    assert sender.post(vet_own(url), message_id="fwd_3", body=BODY, signing=UNSIGNED) == 401

    assert capsys.readouterr().out == 2 * "archived t https://a.example.com/files/0.png\n"
