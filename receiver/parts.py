"""Settings and engine → what the HTTP application is made of, for each role."""

import contextlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence

from starlette.routing import Route

from archiver.composition.accounts import expected_of
from archiver.composition.clients import credential_of
from archiver.composition.outside import build_link_store, build_spool
from archiver.composition.running import Engine
from archiver.config import doubts
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings
from archiver.create.callback_tokens import gateway_token
from archiver.engine.api_clocks import ApiClocks
from archiver.failures import LedgerUnavailable
from archiver.families import FAMILIES
from archiver.fetch.urls import ConsumerPolicy, EgressPolicy
from archiver.kling.client_credentials import AccountCredentials
from archiver.ledger import Ledger, unix_ms
from archiver.metrics import Metrics
from archiver.model import Callback, CallbackOutcome, Stage
from archiver.record import Recorder
from archiver.store.links import LinkSigner, ShownTask, links_of_shown, signer_of
from receiver.api.tasks import Api
from receiver.app import AppParts, Door
from receiver.callbacks.endpoint import CallbackEndpoint
from receiver.callbacks.intake import Intake
from receiver.callbacks.signatures import Signatures
from receiver.console.parts import ConsoleAccount, ConsoleParts, FilePlaces
from receiver.gateway.creates.reading import CallbackAddress
from receiver.gateway.creates.refused_urls import RefusedUrls
from receiver.gateway.gateway import CreateParts, Gateway, GatewayAccount, QueryParts
from receiver.gateway.queries.account_tasks import AccountTasks
from receiver.gateway.upstream import KlingAccess
from receiver.links.finder import LinkedAccount
from receiver.links.service import REDIRECT, STREAM, LinkService

PRESIGNED_SECONDS = 3600
"""For pictures in the console if there are no links."""
WAITING_MAX = 4096
"""Callbacks waiting for a commit; further ones get 503."""


def build_parts(
    settings: Settings, engine: Engine, metrics: Metrics, *, role: ProcessRole, draining: threading.Event
) -> AppParts:
    """The application of a role. Every role serves the health endpoints, a door also callbacks; only a whole daemon has
    `/api` and `/console`."""
    door = _door(settings, engine, metrics) if role.takes_callbacks else None
    is_door_busy = _is_busy(door)
    return AppParts(
        metrics_port=settings.metrics_port,
        door=door,
        metrics=metrics,
        draining=draining.is_set,
        probe=engine.ledger.daemons.ping,
        degraded=engine.health.degraded,
        stalled=engine.pulses.vital_stalled,
        refresh_metrics=engine.health.refresh_gauges,
        routes=_api(settings, engine) if role is ProcessRole.WHOLE else [],
        links=(
            link_service(settings, engine.ledger, metrics, is_door_busy=is_door_busy)
            if role.serves_links
            else None
        ),
        gateway=_gateway(settings, engine, metrics, is_door_busy) if role.relays(settings) else None,
        console=_console(settings, engine) if role is ProcessRole.WHOLE else None,
    )


def _is_busy(door: Door | None) -> Callable[[], bool]:
    """Whether callbacks are being committed; they go before all other work."""
    return lambda: door is not None and door.intake.is_busy


def _gateway(
    settings: Settings, engine: Engine, metrics: Metrics, is_door_busy: Callable[[], bool]
) -> Gateway:
    return Gateway(
        [_gateway_account(account) for account in settings.accounts],
        creates=_creates(settings, engine),
        queries=_queries(settings, engine, metrics),
        spool=engine.spool or build_spool(settings),
        metrics=metrics,
        now=lambda: unix_ms() / 1000,
        proxy=settings.proxy,
        is_door_busy=is_door_busy,
    )


def _creates(settings: Settings, engine: Engine) -> CreateParts:
    addresses = {
        account.name: CallbackAddress(
            account.public_url or "", gateway_token(account.callback_token[0].get_secret_value())
        )
        for account in settings.accounts
    }
    refused: Mapping[tuple[str, str], int] = {}
    with contextlib.suppress(LedgerUnavailable):  # each of them costs one more refusal
        refused = engine.ledger.gateway_creates.refused_callbacks()
    return CreateParts(
        engine.ledger.gateway_creates,
        addresses,
        ConsumerPolicy.parse(settings.forward_hosts),
        on_registered=lambda account: engine.wake(Stage.VERIFY, [account]),
        refused_urls=RefusedUrls(refused),
    )


def _queries(settings: Settings, engine: Engine, metrics: Metrics) -> QueryParts:
    accounts = {
        account.name: AccountTasks(
            Recorder(account.name, engine.ledger, metrics, random.random),
            tuple(account.families),
            LinkSigner(account.link_secrets(), public_url=account.public_url or ""),
            account.public_url or "",
        )
        for account in settings.accounts
    }
    return QueryParts(accounts, engine.ledger.views, engine.ledger.registrations, build_link_store(settings))


def _gateway_account(account: Settings) -> GatewayAccount:
    keys = [secret.get_secret_value() for secret in account.gateway_key]
    api_keys = [*account.client_api_keys, *([account.api_key] if account.api_key is not None else [])]
    pair = (account.access_key, account.secret_key)
    return GatewayAccount(
        KlingAccess(account.base_url, credential_of(account)),
        AccountCredentials(
            account.name,
            key_pairs={pair[0].get_secret_value(): pair[1].get_secret_value()} if pair[0] and pair[1] else {},
            api_keys=[key.get_secret_value() for key in api_keys],
            gateway_keys={name: key for name, _, key in (entry.partition(":") for entry in keys)},
        ),
    )


def link_service(
    settings: Settings,
    ledger: Ledger,
    metrics: Metrics,
    *,
    is_door_busy: Callable[[], bool] = lambda: False,
) -> LinkService | None:
    """The service of links, for a process of any role; None if the settings want no links.

    Raises SettingsError when boto3 refuses its part of the settings.
    """
    public_url = next((account.public_url for account in settings.accounts if account.public_url), None)
    signer = signer_of(settings.link_secrets(), public_url)
    if signer is None:
        return None
    store = build_link_store(settings)
    linked = [(account, LinkedAccount(account.name, account.s3_prefix)) for account in settings.accounts]
    accounts = {name: found for account, found in linked for name in account.account_former_names}
    # If a former name is now another account's present name, it belongs to that account.
    accounts |= {found.name: found for _, found in linked}
    return LinkService(
        signer,
        ledger.files.find,
        store,
        accounts=accounts,
        mode=settings.link_mode or default_link_mode(store.endpoint_url),
        policy=EgressPolicy.parse(settings.asset_hosts),
        metrics=metrics,
        ca_bundle=store.ca_bundle,
        is_door_busy=is_door_busy,
    )


def default_link_mode(endpoint_url: str) -> str:
    """The mode if none is set: `stream` if browsers cannot reach the store, because it is private or uses plain
    http."""
    return STREAM if doubts.is_hidden(endpoint_url) else REDIRECT


def _door(settings: Settings, engine: Engine, metrics: Metrics) -> Door:
    def record(callbacks: Sequence[Callback]) -> list[CallbackOutcome]:
        outcomes = engine.ledger.callbacks.record(callbacks)
        engine.wake(Stage.VERIFY, {callback.account for callback in callbacks})
        return outcomes

    intake = Intake(record, waiting_max=WAITING_MAX)
    tokens = {
        token.get_secret_value(): account.name
        for account in settings.accounts
        for token in account.callback_token
    }
    callbacks = CallbackEndpoint(
        intake=intake,
        tokens=tokens,
        gateway_tokens={gateway_token(token): account for token, account in tokens.items()},
        signatures={
            account.name: _signatures(account, engine.health.clocks) for account in settings.accounts
        },
        families=FAMILIES,
        body_bytes_max=settings.callback_bytes_max,
        metrics=metrics,
    )
    return Door(callbacks, intake)


def _api(settings: Settings, engine: Engine) -> list[Route]:
    if settings.admin_token is None:
        return []
    api = Api(
        engine.ledger,
        token=settings.admin_token.get_secret_value(),
        expected=expected_of(settings),
        now=unix_ms,
        on_wanted=lambda account: engine.wake(Stage.VERIFY, [account]),
        links=_links_of(settings),
        operator_url=settings.operator_url(),
    )
    return api.routes()


def _console(settings: Settings, engine: Engine) -> ConsoleParts | None:
    if settings.admin_token is None:
        return None
    expected = expected_of(settings)
    return ConsoleParts(
        token=settings.admin_token.get_secret_value(),
        ledger=engine.ledger,
        expected=expected,
        accounts=[
            ConsoleAccount(
                name=account.name,
                families=expected.families[account.name],
                base_url=account.base_url,
                credentials="pair of keys" if account.api_key is None else "API Key",
                prefix=account.s3_prefix,
            )
            for account in settings.accounts
        ],
        bucket=settings.s3_bucket,
        public_url=next((account.public_url for account in settings.accounts if account.public_url), None),
        operator_url=settings.operator_url(),
        trusted_proxies=settings.trusted_proxies,
        wake=engine.wake,
        links=_links_of(settings),
        file_places=file_places(settings),
    )


def file_places(settings: Settings) -> FilePlaces:
    """Where pages of the console get files: where links lead; without links, from the store.

    Raises SettingsError when boto3 refuses its part of the settings.
    """
    store = build_link_store(settings)
    mode = settings.link_mode or default_link_mode(store.endpoint_url)
    has_links = bool(settings.link_secrets()) and any(account.public_url for account in settings.accounts)
    if has_links and mode == STREAM:
        return FilePlaces()
    if has_links and mode != REDIRECT:
        return FilePlaces(links_lead_to=mode)
    return FilePlaces(presign=lambda key: store.presigned(key, seconds=PRESIGNED_SECONDS))


def _links_of(settings: Settings) -> Callable[[ShownTask], Mapping[str, str]]:
    """The links of a task's files, by stem."""
    signers = {
        account.name: signer_of(account.link_secrets(), account.public_url) for account in settings.accounts
    }
    return lambda task: links_of_shown(signers.get(task.account), task)


def _signatures(account: Settings, clocks: ApiClocks) -> Signatures:
    return Signatures(
        [secret.get_secret_value() for secret in account.signing_secret],
        required=account.signature == "required",
        skew_ms=lambda: clocks.skew_ms(account.name),
    )
