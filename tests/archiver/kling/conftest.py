"""A scripted API, and clients of it."""

import threading
from collections.abc import Iterator

import pytest

from tests.harness.scripted_api import Api, Clients


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clients(api: Api) -> Iterator[Clients]:
    made = Clients(api)
    yield made
    made.close()
