"""One try of one forward: read what is known of the task, send it to the application, record the answer.

A crash before the answer is recorded sends the forward again, with the same `webhook-id`: delivery is at least once.
Nothing of the task depends on any of this.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping

from archiver import log
from archiver.create.callback_urls import CallbackUrls
from archiver.failures import (
    ConsumerNotAllowed,
    ConsumerNotReached,
    ConsumerRefused,
    Failure,
    LeaseLost,
    LedgerUnavailable,
    StoreMismatch,
    backoff_ms,
)
from archiver.fetch.urls import ConsumerPolicy, PolicyRefusal, VettedUrl
from archiver.forward.body import body_of, kept_in, key_of
from archiver.forward.urls import DurableUrls
from archiver.ledger import PASSED_ON, ForwardContent, ForwardEvent, ForwardLease, ForwardTarget, Ledger
from archiver.ledger.forwards import LEASE_SECONDS, TRIED_MS
from archiver.metrics import ForwardResult, Metrics
from archiver.model import Stage
from archiver.store import Store
from archiver.webhooks.sender import TRY_SECONDS, Signing, Unanswered, WebhookSender

GONE = 410
BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX = 2.0, 3600.0
MANIFEST_BYTES_MAX = 16 * 1024 * 1024
_SLACK_SECONDS = 2.0


class Taken(enum.Enum):
    """What a try has shown of the consumer."""

    YES = enum.auto()
    NO = enum.auto()
    NOTHING = enum.auto()


@dataclasses.dataclass(frozen=True)
class ForwardAccount:
    """What forwards need to know of one account, and the secrets that sign them for its clients."""

    urls: DurableUrls
    signing: Signing
    callback_urls: CallbackUrls
    """Our callback URLs, which must not reach any application."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """The operator's application."""

    url: VettedUrl
    signing: Signing


@dataclasses.dataclass(frozen=True)
class Forwarder:
    """Thread-safe. `now` gives Unix ms, `monotonic` seconds, `random` numbers in [0, 1)."""

    ledger: Ledger
    store: Store
    sender: WebhookSender
    accounts: Mapping[str, ForwardAccount]
    operator: Operator | None
    policy: ConsumerPolicy
    """The policy for URLs of clients."""
    bucket: str
    metrics: Metrics
    now: Callable[[], int]
    monotonic: Callable[[], float]
    random: Callable[[], float]
    retries: log.Sparing

    def forward(self, lease: ForwardLease, *, asked_at: float) -> tuple[Taken, Failure | None]:
        """One try; `asked_at` is when the lease was asked for. Raises LedgerUnavailable: then the lease ends by itself,
        and the forward is sent again."""
        try:
            return self._try(lease, asked_at=asked_at)
        except LeaseLost:
            log.get().warning("lease.lost", stage=Stage.FORWARD, webhook_id=lease.webhook_id)
            return Taken.NOTHING, None

    def _try(self, lease: ForwardLease, *, asked_at: float) -> tuple[Taken, Failure | None]:
        content: ForwardContent | None = None
        try:
            content = self.ledger.forwards.content(lease)
            body = self._body(lease, content)
            if self.monotonic() - asked_at > LEASE_SECONDS - TRY_SECONDS - _SLACK_SECONDS:
                self.ledger.forwards.give_back(lease)
                return Taken.NOTHING, None
            return self._post(lease, content, body)
        except (LeaseLost, LedgerUnavailable):
            raise
        except _Unread as unread:
            self._failed(lease, content, unread.failure, status=None)
        except Exception as error:  # noqa: BLE001 -- else its forward, and what waits behind it, would never end
            failure = Failure(f"unexpected: {type(error).__name__}")
            self._failed(lease, content, failure, status=None, defect=error)
        return Taken.NOTHING, None

    def _body(self, lease: ForwardLease, content: ForwardContent) -> str:
        try:
            document = content.document
            if document is None:
                document, content = self._kept_document(lease, content)
            account = self.accounts[lease.account]
            body = body_of(lease, content, document, account.urls.of(content), bucket=self.bucket)
        except Failure as error:
            raise _Unread(error) from error
        is_clients = lease.target is ForwardTarget.CLIENT
        clients = (content.client_callback_url or "") if is_clients else ""
        return account.callback_urls.replaced_in(body.encode(), clients).decode()

    def _kept_document(self, lease: ForwardLease, content: ForwardContent) -> tuple[str, ForwardContent]:
        """The API's object as the bucket has it; of a manifest, without the files that it does not name."""
        key = key_of(lease, content)
        if key is None:
            return "{}", content
        kept = kept_in(self.store.read(key, bytes_max=MANIFEST_BYTES_MAX))
        if kept is None:
            raise StoreMismatch(f"{key} is no manifest")
        if lease.event is ForwardEvent.ARCHIVED:
            stored = [leased.stored for leased in content.assets if leased.stored is not None]
            named = {asset.stem for asset in stored if asset.name in kept.names}
            content = dataclasses.replace(content, told_stems=content.told_stems & named)
        return kept.document, content

    def _post(self, lease: ForwardLease, content: ForwardContent, body: str) -> tuple[Taken, Failure | None]:
        status: int | None = None
        try:
            url, signing = self._where(lease, content)
            status = self.sender.post(url, message_id=lease.webhook_id, body=body, signing=signing)
        except PolicyRefusal as error:
            failure: Failure = ConsumerNotAllowed(f"the callback URL is refused: {error.cause}")
        except Unanswered as error:
            kind = ConsumerNotAllowed if error.is_refused else ConsumerNotReached
            failure = kind(f"the application has not answered: {error}")
        else:
            if 200 <= status < 300:
                self._delivered(lease, content, status)
                return Taken.YES, None
            if status == GONE:
                self._gone(lease, content)
                return Taken.NOTHING, None
            failure = ConsumerRefused(f"the application has answered {status}")
        self._failed(lease, content, failure, status=status)
        return Taken.NO, failure

    def _where(self, lease: ForwardLease, content: ForwardContent) -> tuple[VettedUrl, Signing]:
        """Raises PolicyRefusal."""
        if lease.target is ForwardTarget.OPERATOR and self.operator is not None:
            return self.operator.url, self.operator.signing
        url = content.client_callback_url or ""
        return self.policy.vet(url), self.accounts[lease.account].signing

    # --- what came of it ------------------------------------------------------------------------------------

    def _delivered(self, lease: ForwardLease, content: ForwardContent, status: int) -> None:
        self._count(ForwardResult.OK)
        for reason in self.ledger.forwards.delivered(lease, status=status):
            log.get().info("hold.released", stage=Stage.FORWARD, reason=reason)
        log.get().info("forward.delivered", **_fields(lease, content), status=status)

    def _gone(self, lease: ForwardLease, content: ForwardContent) -> None:
        """The application answered 410: it wants this forward no more. That is not a problem for the operator."""
        self._count(ForwardResult.GONE)
        self.ledger.forwards.dead(lease, status=GONE, reason="gone", is_problem=False)
        log.get().warning("forward.ended", **_fields(lease, content), status=GONE)

    def _failed(
        self,
        lease: ForwardLease,
        content: ForwardContent | None,
        failure: Failure,
        *,
        status: int | None,
        defect: Exception | None = None,
    ) -> None:
        """`defect` is an unexpected exception; the log gets its traceback."""
        is_refused = isinstance(failure, ConsumerNotAllowed)
        self._count(ForwardResult.REFUSED if is_refused else ForwardResult.RETRY)
        reason, stage = failure.reason, Stage.FORWARD
        self.metrics.failures_total.labels(account=lease.account, stage=stage, reason=reason).inc()
        fields = _fields(lease, content) | {"reason": reason, "message": str(failure)}
        fields |= {} if defect is None else {"exc_info": defect}
        if lease.event in PASSED_ON:  # best effort
            self.ledger.forwards.dead(lease, status=status, reason=reason, is_problem=False)
            return
        now = self.now()
        if now - lease.queued_at >= TRIED_MS:
            self.ledger.forwards.dead(lease, status=status, reason=reason, is_problem=True)
            log.get().error("forward.dead", **fields, what_to_do=failure.what_to_do)
            return
        due_at = now + backoff_ms(
            lease.attempt,
            rand=self.random(),
            first_seconds=BACKOFF_SECONDS_FIRST,
            seconds_max=BACKOFF_SECONDS_MAX,
        )
        self.ledger.forwards.retry(lease, due_at=due_at, status=status, reason=reason)
        spared = self.retries.fields(lease.target)
        if spared is not None:
            log.get().warning("forward.retried", **fields, **spared)

    def _count(self, result: ForwardResult) -> None:
        self.metrics.forward_deliveries_total.labels(result=result).inc()


class _Unread(Exception):
    """The contents of the forward could not be read now."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def _fields(lease: ForwardLease, content: ForwardContent | None) -> dict[str, object]:
    """Fields for the log, with only the origin of a client's URL."""
    return {
        "account": lease.account,
        "task_id": None if content is None else content.task_id,
        "told": lease.event,
        "target": lease.target,
        "consumer": lease.consumer or None,
        "attempt": lease.attempt,
        "webhook_id": lease.webhook_id,
    }
