"""Settings that are missing or contradict each other. Pure functions that yield problems: whole sentences."""

import enum
from collections.abc import Collection, Iterator

from archiver.config import values
from archiver.config.sources import SettingsSources


class Need(enum.Enum):
    """What a command needs. The ledger is not listed: it has a default."""

    KLING = "kling"
    """Credentials for the API."""
    STORE = "store"
    """The bucket."""
    CALLBACKS = "callbacks"
    """The callback token, and other settings of the HTTP server."""


def missing(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    """A problem for each setting that this command needs."""
    if given.accounts is None:
        yield from missing_of_account(given, need)
    if Need.STORE in need and not given.has("s3_bucket"):
        yield "KLING_S3_BUCKET is missing: name the bucket that results are saved in."


def missing_of_account(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    pair, api = ("access_key", "secret_key"), "api_key"
    if Need.KLING in need and not any(given.has(name) for name in (*pair, api)):
        access_key, secret_key = (given.label(name) for name in pair)
        yield (
            f"{access_key} and {secret_key} (or {given.label(api)} instead) are missing: "
            "copy them from Kling's developer console."
        )
    if Need.CALLBACKS in need and not given.has("callback_token"):
        yield (
            f"{given.label('callback_token')} is missing: make a token with {values.MAKE_A_TOKEN} and put it into "
            "the callback URL."
        )


def contradictions(given: SettingsSources, need: Collection[Need]) -> Iterator[str]:
    """A problem for each pair of settings that contradict each other."""
    access, secret, api = (given.has(name) for name in ("access_key", "secret_key", "api_key"))
    if api and (access or secret):
        pair = given.label("access_key" if access else "secret_key")
        yield f"{given.label('api_key')} and {pair} are both set: keep either the API Key or the pair of keys."
    elif access != secret:
        present, missing = ("access_key", "secret_key") if access else ("secret_key", "access_key")
        yield f"{given.label(present)} is set without {given.label(missing)}: set both."
    required = str(given.value("signature")).lower() == "required"
    if Need.CALLBACKS in need and required and not given.has("signing_secret"):
        yield (
            f"{given.label('signature')} is `required`, but {given.label('signing_secret')} is missing: "
            "every callback would be refused."
        )
