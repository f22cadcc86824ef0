"""All settings: read once by an entry point, frozen, every limit with its unit in its name.

1. All problems are reported at once, so that a container restarts once. Each names the setting and what to do.
2. A secret's value is in no message, repr or traceback. Messages repeat only values that cannot be secrets.
3. Nothing is silently ignored. An unknown key in the TOML file is a problem; an unknown `KLING_…` variable is a
   warning, because other programs share the environment.

Precedence: environment variable (or its `_FILE`), TOML file, default. Settings that a role or a command does not `Need`
may be missing, and those that are secrets are not read. Any other setting that is set must be valid for all.

`accounts` has one `Settings` for each table under `[[accounts]]`, as if it were the only account, so most code knows of
one account only. Rejected: a separate class, because every setting of an account would be declared twice.
"""

import collections
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from archiver.config import accounts, checks, invalid, sources, urls
from archiver.config.checks import Need
from archiver.config.declarations import Declarations
from archiver.config.sources import AccountSources, SettingsSources
from archiver.config.table import SECRET_NAMES, SETTINGS, Setting, known
from archiver.fetch.proxy import Proxy

__all__ = ["EVERYTHING", "SECRET_NAMES", "SETTINGS", "Need", "Setting", "Settings", "SettingsError"]

EVERYTHING: Final = frozenset(Need) - {Need.GATEWAY_ALONE}


class SettingsError(Exception):
    """`problems` has one sentence for each reason, safe to print."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join([f"{count} with the settings:", *(f"  - {problem}" for problem in self.problems)])


class Settings(Declarations):
    """The settings as they were loaded, and what was found beside them.

    Secrets are `SecretStr`: call `.get_secret_value()` only where they are used.
    """

    unknown: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each `KLING_…` variable that is not a setting."""
    misspelled: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each `KLING_…` variable that nearly has the name of a setting."""
    corrected: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each setting that is read otherwise than it was written."""
    proxy: Annotated[Proxy | None, Field(exclude=True)] = None
    """The proxy for the CDN, from the environment's own variables. The clients of API and store read these by
    themselves."""
    several: Annotated[tuple["Settings", ...], Field(exclude=True)] = ()
    """One for each table under `[[accounts]]`. Use `accounts`."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, need: Collection[Need] = EVERYTHING) -> Self:
        """Read the settings from `environ` and the files that it names.

        Raises:
            SettingsError: with all problems.
        """
        given = _read(environ, need)
        several, problems_of_accounts = cls._load_accounts(given, need)
        proxy, problems_of_connections = _connections(environ) if Need.KLING in need else (None, [])
        if Need.STORE in need:
            problems_of_connections += checks.credentials(environ)
        problems = [
            *given.problems,
            *checks.missing(given, need),
            *problems_of_accounts,
            *checks.shared_secrets(given),
            *checks.gateway(given, need),
            *checks.ports(given),
            *problems_of_connections,
        ]
        try:
            settings = cls._build(given, several=tuple(several), proxy=proxy)
        except ValidationError as error:
            raise SettingsError([*problems, *invalid.problems(given, error), *given.misspelled]) from None
        if problems:  # a misspelled variable may be why another one is missing
            raise SettingsError([*problems, *given.misspelled])
        return settings

    @classmethod
    def _load_accounts(
        cls, given: SettingsSources, need: Collection[Need]
    ) -> tuple[list["Settings"], list[str]]:
        """The settings of each table under `[[accounts]]`, and what is wrong with them; without tables, what is wrong
        with the only account."""
        if given.accounts is None:
            return [], list(checks.contradictions(given, need))
        several: list[Settings] = []
        problems = list(accounts.misplaced(given))
        for account in given.accounts:
            settings_of_account, found = cls._load_account(account, given, need=need)
            several.extend(settings_of_account)
            problems += map(account.problem, found)
        return several, [*problems, *accounts.conflicts(given.accounts)]

    @classmethod
    def _load_account(
        cls, account: AccountSources, outside: SettingsSources, *, need: Collection[Need]
    ) -> tuple[list["Settings"], list[str]]:
        """The settings of an account (none if invalid), and the problems of its table."""
        given = accounts.with_shared(account, outside)
        problems = [
            *given.problems,
            *checks.missing_of_account(given, need),
            *checks.contradictions(given, need),
        ]
        if not given.has(accounts.NAME):
            problems.append("'name' is missing: ledger, manifests and logs use it for the account.")
        try:
            return [cls._build(given)], problems
        except ValidationError as error:
            return [], [
                *problems,
                *invalid.problems(given, error, names=account.given.layers[0].values.keys()),
            ]

    @classmethod
    def _build(
        cls,
        given: SettingsSources,
        *,
        several: tuple["Settings", ...] = (),
        proxy: Proxy | None = None,
    ) -> Self:
        """Raises ValidationError."""
        own: dict[str, object] = {
            "unknown": tuple(given.unknown),
            "misspelled": tuple(given.misspelled),
            "corrected": tuple(dict.fromkeys((*checks.corrections(given), *_corrected(several)))),
            "several": several,
            "proxy": proxy,
        }
        layers = [own, *(layer.values for layer in given.layers)]
        return cls.model_validate(dict(collections.ChainMap(*layers)))

    @property
    def name(self) -> str:
        """The account's name in ledger, manifests and logs."""
        return self.account

    @property
    def accounts(self) -> tuple["Settings", ...]:
        """The settings of each account; without `[[accounts]]`, only these."""
        return self.several or (self,)

    def secrets(self) -> tuple[str, ...]:
        """The values of all secrets."""
        found: list[str] = []
        for name in SECRET_NAMES:
            value = getattr(self, name)
            secrets = value if isinstance(value, tuple) else (value,) if value else ()
            found.extend(secret.get_secret_value() for secret in secrets)
        for url in (self.ledger_url, self.ledger_listen_url or ""):
            found.extend(urls.passwords(url))
        for account in self.several:
            found.extend(account.secrets())
        return tuple(dict.fromkeys(found))

    def link_secrets(self) -> tuple[str, ...]:
        """The first secret signs new links; each of them opens links."""
        return tuple(secret.get_secret_value() for secret in self.link_secret)

    def operator_url(self) -> str | None:
        """The URL of the operator's application, which gets forwards."""
        return None if self.forward_url is None else self.forward_url.get_secret_value()

    def log_format_at(self, *, terminal: bool) -> Literal["console", "json"]:
        """By default `console` at a terminal and `json` elsewhere."""
        return self.log_format or ("console" if terminal else "json")


def _read(environ: Mapping[str, str], need: Collection[Need]) -> SettingsSources:
    names = known(need)
    given = sources.read(environ, known=names, known_of_account=accounts.known(names))
    if Need.GATEWAY_ALONE in need and not given.has("gateway"):
        given.layers.insert(0, sources.Layer({"gateway": "on"}, {}))
    return given


def _connections(environ: Mapping[str, str]) -> tuple[Proxy | None, list[str]]:
    """The proxy that the environment names, and what is wrong with its variables for proxies and certificates."""
    problems: list[str] = []
    proxy: Proxy | None = None
    try:
        proxy = Proxy.from_environment(environ)
    except ValueError as error:
        problems.append(str(error))
    return proxy, [*problems, *checks.certificates(environ)]


def _corrected(several: Iterable[Settings]) -> Iterator[str]:
    return itertools.chain.from_iterable(account.corrected for account in several)
