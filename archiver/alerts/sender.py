"""Posts one alert. The URL is the operator's own: it may be anywhere, and its path may be a secret (chat hooks)."""

from collections.abc import Sequence

from archiver.fetch.urls import vet_own
from archiver.webhooks.sender import Signing, Unanswered, WebhookSender


class Undelivered(Exception):
    """The receiver has not accepted the message. The text says why, without the URL."""


class AlertSender:
    """Posts to one URL."""

    def __init__(self, url: str, sender: WebhookSender, *, secrets: Sequence[str] = ()) -> None:
        """`secrets` sign each message, all of them. Raises PolicyRefusal if `url` is not a URL."""
        self._url = vet_own(url)
        self._sender = sender
        self._signing = Signing(secrets)

    def send(self, message_id: str, body: str) -> None:
        """One try. A 2xx in the head of the answer is all that counts. Raises Undelivered."""
        try:
            status = self._sender.post(self._url, message_id=message_id, body=body, signing=self._signing)
        except Unanswered as error:
            raise Undelivered(str(error)) from None
        if not 200 <= status < 300:
            raise Undelivered(f"HTTP {status}")
