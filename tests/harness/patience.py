"""A patient store whose waits take no time."""

import threading
from collections.abc import Callable

from archiver.audit.patience import PatientStore
from archiver.failures import Failure
from archiver.store import Store
from tests.harness.ledgers import Clock


def patient(
    store: Store,
    *,
    stop: threading.Event | None = None,
    on_trouble: Callable[[Failure], object] = lambda _: None,
) -> PatientStore:
    """On a clock of its own, which its waits move."""
    clock = Clock()
    return PatientStore(
        store,
        stop=stop or threading.Event(),
        wait=lambda seconds: clock.advance(round(seconds * 1000)),
        on_trouble=on_trouble,
        clock=lambda: clock() / 1000,
    )
