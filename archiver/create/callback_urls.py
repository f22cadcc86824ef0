"""Finds our callback URLs in answers of Kling. They contain a token, and anyone who has it can post callbacks. No
I/O."""

import re
from collections.abc import Collection

from archiver.kling.places import replace_in_strings

_PATH = "/callbacks/"


class CallbackUrls:
    """The callback URLs of one installation. Its `repr` shows no token."""

    def __init__(self, public_urls: Collection[str], tokens: Collection[str] = ()) -> None:
        """Ours are those below `public_urls`, and any with one of `tokens`: a door may have other names."""
        names = [rf"{re.escape(url.rstrip('/'))}{_PATH}" for url in sorted(public_urls)]
        if tokens:
            named = "|".join(re.escape(token) for token in sorted(tokens))
            names.append(rf"https?://[^\s\"'<>]{{0,300}}{_PATH}(?:{named})(?![A-Za-z0-9_-])")
        rest = r"[^\s\"'<>]*"
        self._pattern = re.compile(rf"(?:{'|'.join(names)}){rest}" if names else r"(?!)")

    def stand_in(self, text: str) -> bool:
        """Whether this text contains one of our callback URLs."""
        return self._pattern.search(text) is not None

    def replaced(self, text: str, instead: str) -> str:
        """The text with each of our callback URLs replaced by `instead`."""
        return self._pattern.sub(lambda _: instead, text)

    def replaced_in(self, body: bytes, instead: str) -> bytes:
        """Replace them in every string of a JSON text. Only strings that change are written anew."""
        if _PATH.encode() not in body:
            return body
        return replace_in_strings(body, lambda text: self.replaced(text, instead))
