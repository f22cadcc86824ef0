"""The parts of the console."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from archiver.ledger import Ledger
from archiver.model import Stage
from archiver.problems import Expected
from archiver.store.links import ShownTask


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleAccount:
    """An account as the settings have it."""

    name: str
    families: Sequence[str]
    """The swept families."""
    base_url: str
    credentials: str
    """The kind of credentials: `API Key` or `pair of keys`."""
    prefix: str
    """The prefix of its keys in the bucket."""


@dataclasses.dataclass(frozen=True, slots=True)
class FilePlaces:
    """Where browsers load files from besides links: the policy of a page must name these origins."""

    presign: Callable[[str], str] | None = None
    """A key → a URL that is good for an hour; links, where there are any, lead to such URLs. May raise a `Failure`."""
    links_lead_to: str | None = None
    """The https prefix that links lead to."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConsoleParts:
    """The callables may block."""

    token: str
    """The admin token."""
    ledger: Ledger
    expected: Expected
    accounts: Sequence[ConsoleAccount]
    bucket: str
    public_url: str | None
    operator_url: str | None
    """The URL of the operator's application."""
    trusted_proxies: Sequence[str]
    wake: Callable[[Stage, Iterable[str]], None]
    """There is work for this stage of these accounts."""
    links: Callable[[ShownTask], Mapping[str, str]] = lambda _: {}
    """The links of a task's files, by stem; empty without a link secret."""
    file_places: FilePlaces = FilePlaces()

    @property
    def several(self) -> bool:
        """Whether pages must say which account they speak of."""
        return len(self.accounts) > 1
