"""What an operator can do, by the reason that the ledger has kept."""

from collections.abc import Iterator

from archiver.failures.failure import Failure


def what_to_do(reason: str | None) -> str:
    """Empty if nothing."""
    return next((kind.what_to_do for kind in _subclasses(Failure) if kind.reason == reason), "")


def _subclasses(kind: type[Failure]) -> Iterator[type[Failure]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)
