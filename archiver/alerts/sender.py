"""Posts one alert. The URL is the operator's own: it may be anywhere, and its path may be a secret (chat hooks)."""

import datetime
import http.cookiejar
import time
from collections.abc import Callable, Sequence

import httpx2
import standardwebhooks

from archiver.clock import TimeLeft
from archiver.version import USER_AGENT

TRY_SECONDS = 15.0
CONNECT_SECONDS = 5.0


class Undelivered(Exception):
    """The consumer has not taken it; the message says why, without the URL."""


class AlertSender:
    """Posts to one URL. One thread."""

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str] = (),
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        try_seconds: float = TRY_SECONDS,
    ) -> None:
        """`secrets` sign each message, all of them. `now` gives Unix seconds."""
        self._url = url
        self._signers = [standardwebhooks.Webhook(secret) for secret in secrets]
        self._now = now
        self._monotonic = monotonic
        self._try_seconds = try_seconds
        self._http = httpx2.Client(
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )

    def send(self, message_id: str, body: str) -> None:
        """One try, over after `TRY_SECONDS`. A 2xx in the head of the answer is all that counts. Raises Undelivered."""
        try:
            with self._http.stream(
                "POST",
                self._url,
                content=body.encode(),
                headers=self._signed(message_id, body),
                extensions={"timeout": self._timeouts()},
            ) as response:
                status = response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            raise Undelivered(type(error).__name__) from None  # its text may have the URL
        if not 200 <= status < 300:
            raise Undelivered(f"HTTP {status}")

    def close(self) -> None:
        self._http.close()

    def _signed(self, message_id: str, body: str) -> dict[str, str]:
        at = datetime.datetime.fromtimestamp(int(self._now()), tz=datetime.UTC)
        headers = {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp()))}
        if self._signers:
            signatures = (signer.sign(message_id, at, body) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        return headers

    def _timeouts(self) -> dict[str, object]:
        left = TimeLeft(
            idle_seconds=self._try_seconds, answer_seconds=self._try_seconds, monotonic=self._monotonic
        )
        connect = min(CONNECT_SECONDS, self._try_seconds)
        return {"connect": connect, "pool": connect, "write": connect, "read": left}
