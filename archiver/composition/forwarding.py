"""Settings → the loop that sends forwards to applications."""

import random
import threading

from archiver import log
from archiver.clock import seconds_passed
from archiver.config.settings import Settings
from archiver.create.callback_tokens import gateway_token
from archiver.create.callback_urls import CallbackUrls
from archiver.engine.forwarding.loop import FORWARD_THREADS, ForwardLoop
from archiver.engine.pools import PrestartedPool
from archiver.engine.threads import Guard
from archiver.fetch.urls import ConsumerPolicy, vet_own
from archiver.forward.stage import ForwardAccount, Forwarder, Operator
from archiver.forward.urls import DurableUrls, UrlKind
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.store import Store
from archiver.store.links import signer_of
from archiver.webhooks.sender import Signing, WebhookSender


def build_forward_loop(
    settings: Settings, ledger: Ledger, store: Store, metrics: Metrics, guard: Guard
) -> ForwardLoop:
    """The forward stage's loop. Its tries run on separate threads."""
    operator = None
    if settings.forward_url is not None:
        secrets = [secret.get_secret_value() for secret in settings.forward_secret]
        operator = Operator(vet_own(settings.forward_url.get_secret_value()), Signing(secrets))
    tokens = [token.get_secret_value() for account in settings.accounts for token in account.callback_token]
    ours = CallbackUrls(
        {account.public_url for account in settings.accounts if account.public_url is not None},
        [*tokens, *map(gateway_token, tokens)],
    )
    forwarder = Forwarder(
        ledger=ledger,
        store=store,
        sender=WebhookSender(proxy=settings.proxy),
        accounts={
            account.name: ForwardAccount(
                durable_urls(account, store),
                Signing([secret.get_secret_value() for secret in account.signing_secret]),
                ours,
            )
            for account in settings.accounts
        },
        operator=operator,
        policy=ConsumerPolicy.parse(settings.forward_hosts),
        bucket=settings.s3_bucket,
        metrics=metrics,
        now=ledger.now,
        monotonic=seconds_passed,
        random=random.random,
        retries=log.Sparing(),
    )
    pool = PrestartedPool(FORWARD_THREADS, name="forward")
    return ForwardLoop(forwarder, pool, guard, wake=threading.Event())


def durable_urls(account: Settings, store: Store) -> DurableUrls:
    """The durable URLs that replace the API's URLs in forwards of this account."""
    signer = signer_of(account.link_secrets(), account.public_url)
    chosen = account.forward_links or (UrlKind.S3 if signer is None else UrlKind.LINKS)
    is_prefix = chosen.startswith("https://")
    return DurableUrls(
        kind=UrlKind.PREFIX if is_prefix else UrlKind(chosen),
        bucket=account.s3_bucket,
        store=store,
        signer=signer,
        prefix=chosen if is_prefix else "",
    )
