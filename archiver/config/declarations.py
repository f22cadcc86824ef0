"""Every setting: its type, its default, its limits with their units, and its meaning for the table in
deploy/settings.md."""

import pathlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from archiver.config import urls, values
from archiver.model import ACCOUNT_NAME

_MIB = 2**20
_DAY_SECONDS = 86_400


def _setting(default: object, meaning: str, *, expects: str, shown: str = "", **limits: Any) -> Any:
    """`expects` follows "must be" in a problem. `shown` is the default in the table, if that is not the value."""
    texts: dict[str, Any] = {"expects": expects, "default": shown or str(default or "")}
    return Field(default, description=meaning, json_schema_extra=texts, **limits)


_Secret = Annotated[SecretStr, BeforeValidator(values.secret)]
_Seconds = Annotated[float, BeforeValidator(values.not_a_bool), Field(allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(values.not_a_bool)]
_Bytes = Annotated[int, BeforeValidator(values.size_bytes)]
_WebUrl = Annotated[str, AfterValidator(urls.web_url)]


class Declarations(BaseModel):
    """Each attribute is the variable's name in lower case without `KLING_`, in the order of the contract."""

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
    base_url: Annotated[str, AfterValidator(urls.base_url)] = _setting(
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
    ignored_families: Annotated[tuple[str, ...], BeforeValidator(values.families)] = _setting(
        (),
        "The families whose results you do not want: their tasks that no sweep finds are no problem. A comma list, or "
        "`all`.",
        expects="a comma-separated list of families",
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
    ledger_url: Annotated[str, AfterValidator(urls.ledger_url)] = _setting(
        "sqlite:///kling-ledger.db",
        "The ledger. For one daemon: `sqlite:///` and the path of a file (four slashes for an absolute path). For "
        "several processes: `postgresql://user:password@host/database`.",
        expects="sqlite:/// and the path of a file, or postgresql://user:password@host/database",
        repr=False,
        exclude=True,
    )
    """May hold a password, so it is neither shown nor dumped. Messages use the ledger's name (`databases.opening`)."""
    ledger_listen_url: Annotated[str, AfterValidator(urls.listen_url)] | None = _setting(
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
    asset_hosts: Annotated[tuple[str, ...], BeforeValidator(urls.asset_hosts)] = _setting(
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
    link_mode: Annotated[str, AfterValidator(urls.link_mode)] | None = _setting(
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
    forward_url: Annotated[SecretStr, BeforeValidator(urls.hook_url)] | None = _setting(
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
    forward_links: Annotated[str, AfterValidator(urls.forward_links)] | None = _setting(
        None,
        "The URLs in a forward: `links`, `s3` (`s3://bucket/key`), `presigned` (valid for 7 days), or an https URL "
        "that the key is appended to.",
        expects="links, s3, presigned or a URL such as https://cdn.example.com/",
        shown="links if there are links, else s3",
    )
    forward_hosts: Annotated[tuple[str, ...], BeforeValidator(urls.origins)] = _setting(
        (),
        "Origins that clients of the gateway may use in a `callback_url` although they are private or plain http. A "
        "comma list.",
        expects="a comma-separated list of origins such as http://10.0.0.5:8000",
    )
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(urls.networks)] = _setting(
        (),
        "Addresses and networks of your proxies. The daemon trusts their `X-Forwarded-For`, because the console slows "
        "down wrong tokens by address. A comma list.",
        expects="a comma-separated list of addresses or networks such as 10.0.0.0/8",
    )
    alert_url: Annotated[SecretStr, BeforeValidator(urls.hook_url)] | None = _setting(
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
    host: Annotated[str, AfterValidator(urls.host)] = _setting(
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
