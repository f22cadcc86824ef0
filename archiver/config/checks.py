"""Settings that are missing or contradict each other. Pure functions that yield problems: whole sentences."""

import enum
import itertools
import os
import pathlib
import ssl
from collections.abc import Collection, Iterator, Mapping

from archiver.config import values
from archiver.config.sources import SettingsSources

_VARIABLES_OF_S3 = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
)
_VARIABLES_OF_CONTAINERS = "AWS_CONTAINER_"


class Need(enum.Enum):
    """What a command needs. The ledger is not listed: it has a default."""

    KLING = "kling"
    """Credentials for the API."""
    STORE = "store"
    """The bucket."""
    CALLBACKS = "callbacks"
    """The callback token, and what else the door needs."""
    CALLBACK_URL = "callback_url"
    """The callback token, if there is one: to name our callback URL."""
    ADMIN = "admin"
    """The token of `/api`."""
    LINKS = "links"
    """The secrets that sign links."""
    GATEWAY = "gateway"
    """The keys of the gateway's clients, and what else it needs where it is on."""
    GATEWAY_ALONE = "gateway_alone"
    """The gateway is on, also where KLING_GATEWAY is not set."""
    FORWARDS = "forwards"
    """The URL and the secret of the application that gets forwards."""
    ALERTS = "alerts"
    """The URL and the secret of alerts."""


def missing(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    """A problem for each setting that this command needs."""
    if given.accounts is None:
        yield from missing_of_account(given, need)
    if Need.STORE in need and not given.may_have("s3_bucket"):
        yield "KLING_S3_BUCKET is missing: name the bucket that results are saved in."


def missing_of_account(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    pair, api = ("access_key", "secret_key"), "api_key"
    if Need.KLING in need and not any(given.may_have(name) for name in (*pair, api)):
        access_key, secret_key = (given.label(name) for name in pair)
        yield (
            f"{access_key} and {secret_key} (or {given.label(api)} instead) are missing: "
            "copy them from Kling's developer console."
        )
    if Need.CALLBACKS in need and not given.may_have("callback_token"):
        yield (
            f"{given.label('callback_token')} is missing: make a token with {values.MAKE_A_TOKEN} and put it into "
            "the callback URL."
        )


def corrections(given: SettingsSources) -> Iterator[str]:
    """A sentence for each setting that is read otherwise than it was written."""
    written = given.value("base_url")
    if isinstance(written, str) and written.rstrip("/").endswith("/v1"):
        yield f"{given.label('base_url')} ends in /v1, which every path of the API begins with: it is used without it."


def shared_secrets(given: SettingsSources) -> Iterator[str]:
    """A problem for each secret that is used twice. Others know some of them: Kling gets the callback token in a URL,
    and other programs have a gateway key in their settings."""
    each = (given, *(account.given for account in given.accounts or ()))
    admin = given.value("admin_token")
    if isinstance(admin, str) and any(admin in tokens_of(one) for one in each):
        yield (
            f"{given.label('admin_token')} is also a callback token, which stands in the URL that Kling is given: make "
            f"another one with {values.MAKE_A_TOKEN}"
        )
    if isinstance(admin, str) and any(admin in gateway_keys_of(one).values() for one in each):
        yield (
            f"{given.label('admin_token')} is also the key of a client of the gateway: make another one with "
            f"{values.MAKE_A_TOKEN}"
        )
    links = _entries(given, "link_secret")
    others = [(given.label("admin_token"), {admin} if isinstance(admin, str) else set())]
    others += [(one.label("callback_token"), tokens_of(one)) for one in each]
    others += [(one.label("gateway_key"), set(gateway_keys_of(one).values())) for one in each]
    for label in dict.fromkeys(label for label, secrets in others if links & secrets):
        yield (
            f"{given.label('link_secret')} and {label} are the same: make another link secret with "
            f"{values.MAKE_A_LINK_SECRET}"
        )


def tokens_of(given: SettingsSources) -> set[str]:
    """The callback tokens as they were written; empty if they cannot be read."""
    return _entries(given, "callback_token")


def gateway_keys_of(given: SettingsSources) -> dict[str, str]:
    """Application → key, as they were written."""
    pairs = [entry.partition(":") for entry in sorted(_entries(given, "gateway_key"))]
    return {name: key for name, _, key in pairs if key}


def client_keys_of(given: SettingsSources) -> set[str]:
    """Everything that identifies a client of the gateway: access key, API Keys, gateway keys and their names."""
    own = {given.value(name) for name in ("access_key", "api_key")}
    keys = gateway_keys_of(given)
    return (
        {key for key in own if isinstance(key, str)}
        | _entries(given, "client_api_keys")
        | {*keys, *keys.values()}
    )


def ports(given: SettingsSources) -> Iterator[str]:
    """A problem if two settings name the same port."""
    metrics_port = given.value("metrics_port")
    if metrics_port is not None and str(metrics_port) == str(given.value("port") or 8080):
        yield (
            f"{given.label('metrics_port')} is the port that callbacks come to: name another one, or leave it out"
        )


def gateway(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    """A problem for each setting that the gateway lacks, and for each value that would identify clients of two
    accounts."""
    if Need.GATEWAY_ALONE in need and not _gateway_is_on(given):
        yield f"{given.label('gateway')} is off, but the gateway is what --gateway-only serves: set it to on."
    if Need.GATEWAY not in need or not _gateway_is_on(given):
        return
    if not given.may_have("link_secret"):
        yield (
            f"{given.label('link_secret')} is missing: the gateway answers with links, which it signs. Make one with "
            f"{values.MAKE_A_LINK_SECRET}"
        )
    each = [account.given for account in given.accounts or ()] or [given]
    if not all(one.may_have("public_url") or given.may_have("public_url") for one in each):
        yield f"{given.label('public_url')} is missing: the gateway's links and callback URLs begin with it."
    if Need.CALLBACKS not in need and not all(
        tokens_of(one) or one.may_have("callback_token") for one in each
    ):
        yield (
            f"{given.label('callback_token')} is missing: the gateway makes its callback URLs with it. Give the one "
            "that the door has."
        )
    for first, second in itertools.combinations(given.accounts or (), 2):
        if client_keys_of(first.given) & client_keys_of(second.given):
            yield (
                f"{first.label} and {second.label} have a key of their clients in common (an access key, an API Key, "
                "or a gateway key or its name), and the gateway tells accounts by it: give each its own."
            )


def _gateway_is_on(given: SettingsSources) -> bool:
    return str(given.value("gateway")).lower() in {"on", "true"}


def _entries(given: SettingsSources, name: str) -> set[str]:
    try:
        return set(values.comma_list(given.value(name)))
    except ValueError:
        return set()


def contradictions(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    """A problem for each pair of settings that contradict each other."""
    access, secret, api = (given.has(name) for name in ("access_key", "secret_key", "api_key"))
    # Clients of the gateway may use either of them.
    if api and (access or secret) and not _gateway_is_on(given):
        pair = given.label("access_key" if access else "secret_key")
        yield f"{given.label('api_key')} and {pair} are both set: keep either the API Key or the pair of keys."
    elif access != secret and not all(map(given.may_have, ("access_key", "secret_key"))):
        present, missing = ("access_key", "secret_key") if access else ("secret_key", "access_key")
        yield f"{given.label(present)} is set without {given.label(missing)}: set both."
    required = str(given.value("signature")).lower() == "required"
    if Need.CALLBACKS in need and required and not given.may_have("signing_secret"):
        yield (
            f"{given.label('signature')} is `required`, but {given.label('signing_secret')} is missing: "
            "every callback would be refused."
        )


def certificates(environ: Mapping[str, str]) -> Iterator[str]:
    """A problem for each variable that names no certificates: OpenSSL would fail, or would trust no server."""
    file, folder = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else _reason(error)
            yield f"SSL_CERT_FILE cannot be used: {why}. Name a file of certificates in PEM, or unset it."
    if folder and not any(pathlib.Path(path).is_dir() for path in folder.split(os.pathsep)):
        yield "SSL_CERT_DIR names no folder. Name a folder of certificates, or unset it."


def credentials(environ: Mapping[str, str]) -> Iterator[str]:
    """A problem for each variable that leads boto3 to the bucket with a blank or a line end around it: `docker
    --env-file` keeps the carriage returns of a file with CRLF. botocore would send it, or find nothing of that name.
    Variables of other programs, such as AWS_PAGER, are ignored."""
    for name, value in sorted(environ.items()):
        is_read = name in _VARIABLES_OF_S3 or name.startswith(_VARIABLES_OF_CONTAINERS)
        if is_read and value != value.strip():
            what = "a carriage return" if value.endswith("\r") else "a blank or a line end"
            where = "ends in" if value.rstrip() != value else "begins with"
            cause = ": its file has the line ends of Windows (CRLF)" if value.endswith("\r") else ""
            yield f"{name} {where} {what}{cause}. Take it out; the value itself may be right."


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
