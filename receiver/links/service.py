"""Everything that serves links, opened and closed together."""

from collections.abc import Callable, Mapping

from archiver.fetch.urls import EgressPolicy
from archiver.ledger import FileView
from archiver.metrics import Metrics
from archiver.store.links import LinkSigner
from archiver.store.object_streams import ObjectStreams
from receiver.links.delivery import STREAMS_MAX, Delivery, PrefixRedirect, Redirect, Stream
from receiver.links.endpoint import LinkEndpoint
from receiver.links.finder import Finder, LinkedAccount, LinkStore

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
    ) -> None:
        """`find` is `Files.find`, `mode` as KLING_LINK_MODE has it. Raises ThreadsRefused."""
        self.mode = mode
        self._streams = ObjectStreams(connections_max=STREAMS_MAX, ca_bundle=ca_bundle)
        self._finder = Finder(find, store, accounts=accounts)
        self.endpoint = LinkEndpoint(
            signer, self._finder, self._delivery(mode), policy=policy, metrics=metrics
        )

    def _delivery(self, mode: str) -> Delivery:
        if mode == REDIRECT:
            return Redirect()
        return Stream(self._streams) if mode == STREAM else PrefixRedirect(mode)

    async def close(self) -> None:
        """Let no more readers wait; on the event loop that has served."""
        self._finder.close()
        await self._streams.close()
