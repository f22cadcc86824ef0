"""Everything that serves links, opened and closed together."""

from collections.abc import Callable, Mapping

from archiver.fetch.urls import EgressPolicy
from archiver.ledger import FileView
from archiver.metrics import Metrics
from archiver.store.links import LinkSigner
from archiver.store.object_streams import ObjectStreams
from receiver.links.delivery import Delivery, PrefixRedirect, Redirect, Stream
from receiver.links.endpoint import LinkEndpoint
from receiver.links.finder import Finder, LinkedAccount, LinkStore
from receiver.links.readers import READERS_MAX

REDIRECT, STREAM = "redirect", "stream"


class LinkService:
    """`/files`."""

    def __init__(
        self,
        signer: LinkSigner,
        find: Callable[..., FileView | None],
        store: LinkStore,
        *,
        accounts: Mapping[str, LinkedAccount],
        mode: str,
        policy: EgressPolicy,
        metrics: Metrics,
        ca_bundle: str | None = None,
        is_door_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`find` is `Files.find`, `mode` as KLING_LINK_MODE has it, `is_door_busy` as in `LoopTurns`.

        Raises ThreadsRefused.
        """
        self._is_door_busy = is_door_busy
        self.mode = mode
        self._streams = ObjectStreams(connections_max=READERS_MAX, ca_bundle=ca_bundle)
        self._finder = Finder(find, store, accounts=accounts)
        self.endpoint = LinkEndpoint(
            signer, self._finder, self._delivery(mode), policy=policy, metrics=metrics
        )

    def _delivery(self, mode: str) -> Delivery:
        if mode == REDIRECT:
            return Redirect()
        if mode == STREAM:
            return Stream(self._streams, is_door_busy=self._is_door_busy)
        return PrefixRedirect(mode)

    async def close(self) -> None:
        """Close the service, on the event loop that has served."""
        self._finder.close()
        await self._streams.close()
