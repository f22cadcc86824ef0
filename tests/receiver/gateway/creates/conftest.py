"""Opens gates."""

import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.receiver.gateway.creates.gate import Answer, Gate


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Gate]]:
    @contextlib.asynccontextmanager
    async def opened(*answers: Answer, **options: Any) -> AsyncIterator[Gate]:
        made = Gate(tmp_path, *answers, **options)
        try:
            yield made
            await made.settle()
        finally:
            made.ledger.close()
            made.calls.close()

    return opened
