"""One try to post one message. Three rules:

1. It ends after 15 s: look-up, connection, TLS, body and the head of the answer together, however slowly bytes arrive.
2. A status of 2xx in the head of the answer is success, whatever follows. At most 64 KiB of the answer are read.
   Redirects are not followed.
3. No exception's message contains the URL: its path or query may be a secret.
"""

import datetime
import time
from collections.abc import Callable, Sequence

import httpcore2
import standardwebhooks

from archiver.fetch.connecting import Resolver, resolve
from archiver.fetch.egress import EgressTransport
from archiver.fetch.pace import Allowance
from archiver.fetch.proxy import Proxy
from archiver.fetch.urls import PolicyRefusal, VettedUrl

TRY_SECONDS = 15.0
CONNECT_SECONDS = 5.0
ANSWER_BYTES_MAX = 64 * 1024


class Unanswered(Exception):
    """No status arrived. The message says why in a few words, without the URL. With `is_refused` nothing was sent,
    because the URL is not allowed."""

    def __init__(self, why: str, *, is_refused: bool = False) -> None:
        super().__init__(why)
        self.is_refused = is_refused


class Signing:
    """Signs by Standard Webhooks, with each of its secrets (`whsec_…`). Its `repr` shows no secret."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._signers = [standardwebhooks.Webhook(secret) for secret in secrets]

    def headers(self, message_id: str, body: str, *, at: int) -> dict[str, str]:
        """`at` is Unix seconds. Without a secret there is no signature."""
        headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
        moment = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
        if self._signers:
            signatures = (signer.sign(message_id, moment, body) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        return headers


UNSIGNED = Signing()


class WebhookSender:
    """Posts messages. Each try has a connection of its own. Thread-safe."""

    def __init__(
        self,
        *,
        proxy: Proxy | None = None,
        resolver: Resolver = resolve,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        try_seconds: float = TRY_SECONDS,
    ) -> None:
        """`now` gives Unix seconds."""
        self._transport = EgressTransport(proxy=proxy, resolver=resolver)
        self._now = now
        self._monotonic = monotonic
        self._try_seconds = try_seconds

    def post(self, url: VettedUrl, *, message_id: str, body: str, signing: Signing = UNSIGNED) -> int:
        """Post the message, signed anew; the status of the answer. Raises Unanswered."""
        transfer = Allowance(
            until=self._monotonic() + self._try_seconds,
            idle_seconds=self._try_seconds,
            clock=self._monotonic,
        )
        try:
            return self._transport.post(
                url,
                headers=self._headers(message_id, body, signing),
                content=body.encode(),
                connect_seconds=min(CONNECT_SECONDS, self._try_seconds),
                transfer=transfer,
                head_bytes_max=ANSWER_BYTES_MAX,
            )
        except PolicyRefusal as error:
            raise Unanswered(f"the URL is refused: {error.cause}", is_refused=True) from None
        except httpcore2.TimeoutException:
            raise Unanswered("timeout") from None
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.ProxyError,
            OSError,
            ValueError,
        ) as error:
            raise Unanswered(type(error).__name__) from None

    def close(self) -> None:
        """No try may be under way."""
        self._transport.close()

    def _headers(self, message_id: str, body: str, signing: Signing) -> list[tuple[bytes, bytes]]:
        headers = {"Content-Type": "application/json"}
        headers |= signing.headers(message_id, body, at=int(self._now()))
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
