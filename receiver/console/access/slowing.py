"""Slows down clients that try tokens, by address: each try takes a place among `WAITING_MAX`, waits, and is checked
then.

A try without a place is refused without a check, so its answer says nothing about its token.

A proxy that is not trusted gives all its clients one address, and so does a company's network. A client there that
tries wrong tokens can make an operator try again until a place is free. No client is locked out for good.
"""

import collections
import dataclasses
import ipaddress
import math
from collections.abc import Callable

FIRST_SECONDS = 0.25
"""After one wrong token; doubling with each further one."""
SECONDS_MAX = 8.0
FORGET_SECONDS = 900.0
ADDRESSES_MAX = 4096
"""Beyond this number, the address that has been quiet for longest is forgotten."""
WAITING_MAX = 16
"""Tries of one address that wait to be judged; further ones are answered 429 at once."""
REFUSALS_LOGGED_SECONDS = 1.0
"""Refused tries of one address are one line of the log."""


@dataclasses.dataclass(slots=True)
class _Wrongs:
    count: int
    last_at: float
    waiting: int = 0
    refused: int = 0
    """Refused tries since the last line of the log."""
    refusals_logged_at: float = -math.inf


class Slowing:
    """Used from the event loop only."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrongs: collections.OrderedDict[str, _Wrongs] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._wrongs)

    def seconds(self, address: str) -> float:
        """How long the next answer to this address waits."""
        wrongs = self._of(_block(address))
        if wrongs is None or not wrongs.count:
            return 0.0
        return min(SECONDS_MAX, FIRST_SECONDS * 2.0 ** min(wrongs.count - 1, 30))

    def note_wrong(self, address: str) -> None:
        """Note a wrong token. Called before a try is judged too, so that simultaneous tries wait longer."""
        self._touched(address).count += 1

    def note_refused(self, address: str) -> int:
        """Note a refused try; the number of refused tries to log now, mostly 0."""
        wrongs = self._touched(address)
        wrongs.refused += 1
        if wrongs.last_at - wrongs.refusals_logged_at < REFUSALS_LOGGED_SECONDS:
            return 0
        told, wrongs.refused, wrongs.refusals_logged_at = wrongs.refused, 0, wrongs.last_at
        return told

    def note_right(self, address: str) -> None:
        self._wrongs.pop(_block(address), None)

    def begin_waiting(self, address: str) -> bool:
        """False where too many of this address wait already. Else `end_waiting` follows."""
        wrongs = self._touched(address)
        if wrongs.waiting >= WAITING_MAX:
            return False
        wrongs.waiting += 1
        return True

    def end_waiting(self, address: str) -> None:
        wrongs = self._wrongs.get(_block(address))
        if wrongs is not None:
            wrongs.waiting = max(0, wrongs.waiting - 1)

    def _touched(self, address: str) -> _Wrongs:
        block = _block(address)
        wrongs = self._of(block) or _Wrongs(0, 0.0)
        wrongs.last_at = self._monotonic()
        self._wrongs[block] = wrongs
        self._wrongs.move_to_end(block)
        if len(self._wrongs) > ADDRESSES_MAX:
            self._wrongs.popitem(last=False)
        return wrongs

    def _of(self, block: str) -> _Wrongs | None:
        wrongs = self._wrongs.get(block)
        is_over = wrongs is not None and self._monotonic() - wrongs.last_at > FORGET_SECONDS
        return None if is_over else wrongs


def _block(address: str) -> str:
    """The network of an address: an IPv6 customer has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
