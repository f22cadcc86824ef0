"""What is needed to record tasks of an account, and to make links to their files."""

import dataclasses

from archiver.record import Recorder
from archiver.store.links import LinkSigner


@dataclasses.dataclass(frozen=True, slots=True)
class AccountTasks:
    """Of one account."""

    recorder: Recorder
    families: tuple[str, ...]
    signer: LinkSigner
    public_url: str
    """How Kling reaches our callback door."""
