"""An application that no test has started yet."""

from collections.abc import Iterator

import pytest

from receiver.app import AppParts
from tests.harness.edge import Edge


@pytest.fixture
def parts() -> Iterator[AppParts]:
    edge = Edge()
    yield edge.parts
    edge.server.close()
