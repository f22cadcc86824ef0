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
import dataclasses
import itertools
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from archiver.config import accounts, checks, sources, values
from archiver.config.checks import Need
from archiver.config.sources import PREFIX, AccountSources, SettingsSources
from archiver.fetch.proxy import Proxy
from archiver.model import ACCOUNT_NAME

__all__ = ["EVERYTHING", "SECRET_NAMES", "SETTINGS", "Need", "Setting", "Settings", "SettingsError"]

EVERYTHING: Final = frozenset(Need) - {Need.GATEWAY_ALONE}
_MIB = 2**20
_DAY_SECONDS = 86_400


class SettingsError(Exception):
    """`problems` has one sentence for each reason, safe to print."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join([f"{count} with the settings:", *(f"  - {problem}" for problem in self.problems)])


def _setting(default: object, meaning: str, *, expects: str, shown: str = "", **limits: Any) -> Any:
    """`expects` follows "must be" in a problem. `shown` is the default in README, if that is not the value."""
    texts: dict[str, Any] = {"expects": expects, "default": shown or str(default or "")}
    return Field(default, description=meaning, json_schema_extra=texts, **limits)


_Secret = Annotated[SecretStr, BeforeValidator(values.secret)]
_Seconds = Annotated[float, BeforeValidator(values.not_a_bool), Field(allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(values.not_a_bool)]
_Bytes = Annotated[int, BeforeValidator(values.size_bytes)]
_WebUrl = Annotated[str, AfterValidator(values.web_url)]


class Settings(BaseModel):
    """Each attribute is the variable's name in lower case without `KLING_`.

    Secrets are `SecretStr`: call `.get_secret_value()` only where they are used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    access_key: _Secret | None = _setting(
        None, "The access key of the Kling account. Needs the secret key.", expects="an access key"
    )
    secret_key: _Secret | None = _setting(
        None,
        "The secret key of the Kling account. It signs the tokens that the daemon sends to the API.",
        expects="a secret key",
    )
    api_key: _Secret | None = _setting(
        None, "The API Key of the Kling account. It replaces the pair of keys.", expects="an API Key"
    )
    base_url: Annotated[str, AfterValidator(values.base_url)] = _setting(
        "https://api-singapore.klingai.com",
        "The URL of the API, without `/v1`. It may have a path. Plain http is allowed only to this machine.",
        expects="a URL such as https://api-singapore.klingai.com",
    )
    account: str = _setting(
        "default",
        "The account's name in ledger, manifests and logs.",
        expects="a name of 1 to 64 letters, digits, `.`, `_` or `-`",
        pattern=f"^{ACCOUNT_NAME.pattern}$",
    )
    account_former_names: Annotated[tuple[str, ...], BeforeValidator(values.account_names)] = _setting(
        (),
        "Former names of the account, a comma list. Manifests with one of these names belong to the account.",
        expects="a comma-separated list of names",
    )
    families: Annotated[tuple[str, ...], BeforeValidator(values.families)] = _setting(
        ("images/generations", "images/editing/expand", "images/multi-image2image", "images/omni-image"),
        "The families to sweep, and to search for a task id that came without a family. A comma list, or `all`.",
        expects="a comma-separated list of families",
        shown="images/generations,images/editing/expand,images/multi-image2image,images/omni-image",
    )
    callback_token: Annotated[tuple[SecretStr, ...], BeforeValidator(values.callback_tokens)] = _setting(
        (),
        "The secret part of the callback URL. The daemon does not start without it. A comma list during rotation.",
        expects="a token",
    )
    signing_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(values.signing_secrets)] = _setting(
        (),
        "Kling's webhook signing secret (`whsec_…`): the daemon checks signed callbacks with it. A comma list during "
        "rotation.",
        expects="a secret",
    )
    signature: Annotated[Literal["optional", "required"], BeforeValidator(values.in_lower_case)] = _setting(
        "optional",
        "`optional` accepts callbacks without a signature. `required` refuses them.",
        expects="optional or required",
    )
    s3_bucket: Annotated[str, AfterValidator(values.bucket)] = _setting(
        "", "The bucket for the results. Required.", expects="the name of a bucket"
    )
    s3_prefix: Annotated[str, AfterValidator(values.prefix)] = _setting(
        "",
        "The beginning of every key, taken literally: `kling/` makes a folder.",
        expects="a prefix such as kling/",
    )
    s3_endpoint_url: _WebUrl | None = _setting(
        None, "The URL of the store, unless it is AWS.", expects="a URL such as https://s3.example.com"
    )
    s3_region: str | None = _setting(
        None,
        "The region of the bucket. If not set, boto3 decides.",
        expects="a region such as eu-central-1",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
    )
    s3_addressing_style: (
        Annotated[Literal["auto", "path", "virtual"], BeforeValidator(values.in_lower_case)] | None
    ) = _setting(
        None,
        "Where URLs have the name of the bucket: `path`, `virtual` (in the host name), or `auto`.",
        expects="auto, path or virtual",
        shown="path with an endpoint URL, else auto",
    )
    ledger_url: Annotated[str, AfterValidator(values.ledger_url)] = _setting(
        "sqlite:///kling-ledger.db",
        "The ledger. For one daemon: `sqlite:///` and the path of a file (four slashes for an absolute path). For "
        "several processes: `postgresql://user:password@host/database`.",
        expects="sqlite:/// and the path of a file, or postgresql://user:password@host/database",
        repr=False,
        exclude=True,
    )
    """May hold a password: neither shown nor dumped. In messages the ledger has a name (`databases.opening`)."""
    ledger_listen_url: Annotated[str, AfterValidator(values.listen_url)] | None = _setting(
        None,
        "The connection on which processes wake each other by LISTEN. Set it to the PostgreSQL server itself if "
        "KLING_LEDGER_URL leads to a connection pooler.",
        expects="postgresql://user:password@host/database",
        shown="KLING_LEDGER_URL",
        repr=False,
        exclude=True,
    )
    sweep_interval_seconds: _Seconds = _setting(
        300,
        "The interval of the sweep that reads the newest pages of each family's task list.",
        expects="a number of seconds from 1 to 2592000",
        ge=1,
        le=2_592_000,
    )
    sweep_full_interval_seconds: _Seconds = _setting(
        _DAY_SECONDS,
        "The interval of the full sweep, which reads all pages.",
        expects="a number of seconds from 1 to 2592000",
        ge=1,
        le=2_592_000,
    )
    query_rate_per_second: _Seconds = _setting(
        2,
        "The highest rate of queries to the API, for each account.",
        expects="a number above 0, at most 1000",
        gt=0,
        le=1000,
    )
    transfer_concurrency: _Count = _setting(
        16,
        "The number of tasks that a process archives at the same time.",
        expects="a whole number from 1 to 256",
        ge=1,
        le=256,
    )
    asset_hosts: Annotated[tuple[str, ...], BeforeValidator(values.asset_hosts)] = _setting(
        ("klingai.com", "kechuangai.com", "inkwai.com", "kwimgs.com"),
        "The domains, with their subdomains, that the daemon fetches results from. An origin "
        "(`http://127.0.0.1:9000`) allows exactly that origin. If Kling uses another host, the hold "
        "`asset_host_unlisted` names it: add its domain and restart. A comma list.",
        expects="a comma-separated list of hosts",
        shown="klingai.com,kechuangai.com,inkwai.com,kwimgs.com",
    )
    asset_bytes_max: _Bytes = _setting(
        512 * _MIB,
        "The size limit of an image. An 8K PNG may exceed 100 MiB.",
        expects="from 1 KiB to 1024 GiB",
        shown="512 MiB",
        ge=1024,
        le=2**40,
    )
    video_bytes_max: _Bytes = _setting(
        2048 * _MIB,
        "The size limit of a video or an audio file.",
        expects="from 1 KiB to 1024 GiB",
        shown="2 GiB",
        ge=1024,
        le=2**40,
    )
    callback_bytes_max: _Bytes = _setting(
        256 * 1024,
        "The size limit of a callback.",
        expects="from 1 KiB to 64 MiB",
        shown="256 KiB",
        ge=1024,
        le=2**26,
    )
    spool_dir: Annotated[pathlib.Path, BeforeValidator(values.folder)] | None = _setting(
        None,
        "The folder for the spool: files between download and upload.",
        expects="the path of a folder",
        shown="a private folder under the system's temporary folder",
    )
    public_url: _WebUrl | None = _setting(
        None,
        "The URL at which the internet reaches the daemon. Links begin with it, and so do the callback URLs that "
        "`submit` and the gateway send.",
        expects="a URL such as https://kling.example.com",
    )
    admin_token: Annotated[SecretStr, BeforeValidator(values.admin_token)] | None = _setting(
        None,
        "The token for the console (`/console`) and the API (`/api`). Without it, neither exists.",
        expects="a token",
    )
    link_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(values.link_secrets)] = _setting(
        (),
        "Signs links. Without it there are no links. In a comma list the first secret signs new links, and links "
        "signed with any of them open.",
        expects="a secret",
    )
    link_mode: Annotated[str, AfterValidator(values.link_mode)] | None = _setting(
        None,
        "What a link does: `redirect` sends the client to the store, `stream` sends the bytes, and an https URL "
        "redirects to that URL followed by the key.",
        expects="redirect, stream or a URL such as https://cdn.example.com/",
        shown="stream if the store is private or plain http, else redirect",
    )
    gateway: Annotated[Literal["off", "on"], BeforeValidator(values.off_or_on)] = _setting(
        "off",
        "`on` serves Kling's own paths too, with links in the results. Needs KLING_LINK_SECRET and KLING_PUBLIC_URL.",
        expects="off or on",
    )
    gateway_key: Annotated[tuple[SecretStr, ...], BeforeValidator(values.gateway_keys)] = _setting(
        (),
        "Keys for applications that use the gateway: `name:key`. The gateway replaces them by the account's "
        "credentials. A comma list.",
        expects="name:key",
    )
    client_api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(values.client_api_keys)] = _setting(
        (),
        "Further API Keys of the account, which clients of the gateway may use. A comma list.",
        expects="an API Key",
    )
    forward_url: Annotated[SecretStr, BeforeValidator(values.hook_url)] | None = _setting(
        None,
        "The URL of your application. The daemon POSTs to it when a task is archived, amended, failed or lost. The "
        "body is that of Kling's callback, with URLs that stay valid.",
        expects="a URL such as https://app.example.com/kling",
    )
    forward_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(values.signing_secrets)] = _setting(
        (),
        "Signs forwards by Standard Webhooks (`whsec_…`). A comma list during rotation.",
        expects="a secret",
    )
    forward_links: Annotated[str, AfterValidator(values.forward_links)] | None = _setting(
        None,
        "The URLs in a forward: `links`, `s3` (`s3://bucket/key`), `presigned` (valid for 7 days), or an https URL "
        "that the key is appended to.",
        expects="links, s3, presigned or a URL such as https://cdn.example.com/",
        shown="links if there are links, else s3",
    )
    forward_hosts: Annotated[tuple[str, ...], BeforeValidator(values.origins)] = _setting(
        (),
        "Origins that clients of the gateway may use in a `callback_url` although they are private or plain http. A "
        "comma list.",
        expects="a comma-separated list of origins such as http://10.0.0.5:8000",
    )
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(values.networks)] = _setting(
        (),
        "Addresses and networks of your proxies. The daemon trusts their `X-Forwarded-For`, because the console slows "
        "down wrong tokens by address. A comma list.",
        expects="a comma-separated list of addresses or networks such as 10.0.0.0/8",
    )
    alert_url: Annotated[SecretStr, BeforeValidator(values.hook_url)] | None = _setting(
        None,
        "The URL that gets a JSON POST when a problem has lasted 5 minutes, and when it ends. Each is tried for an "
        "hour.",
        expects="a URL such as https://hooks.example.com/…",
    )
    alert_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(values.signing_secrets)] = _setting(
        (), "Signs alerts by Standard Webhooks (`whsec_…`). A comma list during rotation.", expects="a secret"
    )
    drain_seconds: _Seconds = _setting(
        2,
        "After SIGTERM: how long `/readyz` says that the daemon is not ready, before the daemon refuses new "
        "connections.",
        expects="a number of seconds from 0 to 3600",
        ge=0,
        le=3600,
    )
    shutdown_seconds: _Seconds = _setting(
        20,
        "After that: how long requests and transfers under way may take to finish.",
        expects="a number of seconds from 0 to 3600",
        ge=0,
        le=3600,
    )
    host: Annotated[str, AfterValidator(values.host)] = _setting(
        "127.0.0.1", "The address that the daemon listens on.", expects="an IP address or a host name"
    )
    port: Annotated[int, BeforeValidator(values.port)] = _setting(
        8080,
        "The port that the daemon listens on. 0 picks a free one.",
        expects="a whole number from 0 to 65535",
        ge=0,
        le=65535,
    )
    metrics_port: Annotated[int | None, BeforeValidator(values.port)] = _setting(
        None,
        "A separate port for `/metrics` and the details of `/readyz`. Without it, both are on `KLING_PORT`.",
        expects="a whole number from 1 to 65535",
        ge=1,
        le=65535,
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(values.in_lower_case)] | None = (
        _setting(
            None,
            "The format of the log: `console` or `json`.",
            expects="console or json",
            shown="console at a terminal, else json",
        )
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(values.in_lower_case)
    ] = _setting(
        "info",
        "The lowest level that is logged: `debug`, `info`, `warning` or `error`.",
        expects="debug, info, warning or error",
    )

    unknown: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each `KLING_…` variable that is not a setting."""
    misspelled: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each that nearly is one."""
    corrected: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """A sentence for each setting that is read otherwise than it was written."""
    proxy: Annotated[Proxy | None, Field(exclude=True)] = None
    """Of the environment's own variables, for the CDN; the clients of API and store read them by themselves."""
    several: Annotated[tuple["Settings", ...], Field(exclude=True)] = ()
    """Of each table under `[[accounts]]`. Use `accounts`."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, need: Collection[Need] = EVERYTHING) -> Self:
        """Read the settings from `environ` and the files that it names.

        Raises:
            SettingsError: with all problems.
        """
        known = _known(need)
        given = sources.read(environ, known=known, known_of_account=accounts.known(known))
        if Need.GATEWAY_ALONE in need and not given.has("gateway"):
            given.layers.insert(0, sources.Layer({"gateway": "on"}, {}))
        problems = [*given.problems, *checks.missing(given, need)]
        several: list[Settings] = []
        if given.accounts is None:
            problems += checks.contradictions(given, need)
        else:
            problems += accounts.misplaced(given)
            for account in given.accounts:
                settings_of_account, found = cls._load_account(account, given, need=need)
                several.extend(settings_of_account)
                problems += map(account.problem, found)
            problems += accounts.conflicts(given.accounts)
        problems += checks.shared_secrets(given)
        problems += checks.gateway(given, need)
        problems += checks.ports(given)
        proxy: Proxy | None = None
        if Need.KLING in need:
            try:
                proxy = Proxy.from_environment(environ)
            except ValueError as error:
                problems.append(str(error))
            problems += checks.certificates(environ)
        try:
            settings = cls._build(given, several=tuple(several), proxy=proxy)
        except ValidationError as error:
            raise SettingsError([*problems, *_invalid(given, error)]) from None
        if problems:
            raise SettingsError(problems)
        return settings

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
            return [], [*problems, *_invalid(given, error, names=account.given.layers[0].values.keys())]

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
            found.extend(values.passwords(url))
        for account in self.several:
            found.extend(account.secrets())
        return tuple(dict.fromkeys(found))

    def link_secrets(self) -> tuple[str, ...]:
        """The first signs links, all open them."""
        return tuple(secret.get_secret_value() for secret in self.link_secret)

    def operator_url(self) -> str | None:
        """Where the operator's application is told of tasks."""
        return None if self.forward_url is None else self.forward_url.get_secret_value()

    def log_format_at(self, *, terminal: bool) -> Literal["console", "json"]:
        """By default `console` at a terminal and `json` elsewhere."""
        return self.log_format or ("console" if terminal else "json")


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table in deploy/settings.md."""

    name: str
    default: str
    """As text; empty if there is none."""
    meaning: str
    expects: str
    secret: bool
    """May also be read from a file, as a URL with a password may."""


_SECRET_NEEDS: Final[Mapping[str, Collection[Need]]] = {
    "access_key": (Need.KLING,),
    "secret_key": (Need.KLING,),
    "api_key": (Need.KLING,),
    "callback_token": (Need.CALLBACKS, Need.CALLBACK_URL),
    "signing_secret": (Need.CALLBACKS, Need.FORWARDS),
    "admin_token": (Need.ADMIN,),
    "link_secret": (Need.LINKS,),
    "gateway_key": (Need.GATEWAY,),
    "client_api_keys": (Need.GATEWAY,),
    "forward_url": (Need.FORWARDS,),
    "forward_secret": (Need.FORWARDS,),
    "alert_url": (Need.ALERTS,),
    "alert_secret": (Need.ALERTS,),
}
"""Secret → for what it is read."""
SECRET_NAMES: Final = tuple(_SECRET_NEEDS)
_WITH_PASSWORDS: Final = ("ledger_url", "ledger_listen_url")
"""Settings that may hold a secret, which every role and command needs."""


def _table() -> Iterator[Setting]:
    for name, field in Settings.model_fields.items():
        if isinstance(extra := field.json_schema_extra, dict):
            yield Setting(
                name=PREFIX + name.upper(),
                default=str(extra["default"]),
                meaning=field.description or "",
                expects=str(extra["expects"]),
                secret=name in SECRET_NAMES,
            )


SETTINGS: Final[tuple[Setting, ...]] = tuple(_table())
"""In the order of the contract. A test compares the table in deploy/settings.md with them."""


def _known(need: Collection[Need]) -> sources.KnownSettings:
    return sources.KnownSettings(
        names=[setting.name.removeprefix(PREFIX).lower() for setting in SETTINGS],
        secrets=[*SECRET_NAMES, *_WITH_PASSWORDS],
        needed_secrets=[
            *(name for name, parts in _SECRET_NEEDS.items() if set(parts) & set(need)),
            *_WITH_PASSWORDS,
        ],
    )


def _corrected(several: Iterable[Settings]) -> Iterator[str]:
    return itertools.chain.from_iterable(account.corrected for account in several)


def _invalid(
    given: SettingsSources, error: ValidationError, *, names: Collection[str] | None = None
) -> Iterator[str]:
    """A problem for each setting (in `names`) with an invalid value."""
    reported = set[str]()
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if name in reported or (names is not None and name not in names):
            continue
        reported.add(name)
        sentence = detail.get("ctx", {}).get("error") or f"must be {_expected(given, name)}"
        yield f"{given.label(name)} {sentence}."


def _expected(given: SettingsSources, name: str) -> str:
    """What the setting expects, and what was found unless it could be a secret."""
    extra = Settings.model_fields[name].json_schema_extra
    expects = str(extra["expects"]) if isinstance(extra, dict) else "something else"
    found = given.value(name)
    if name == accounts.NAME and isinstance(found, list):
        return f"{expects}; for several accounts write [[accounts]]"
    if name in SECRET_NAMES or isinstance(found, list | dict) or (isinstance(found, str) and "://" in found):
        return expects
    return f"{expects}, not {repr(found)[:60]}"
