"""What a command says last when a signal or a failure ends it: whether it may be repeated.

Kept ready as text. By then the API and the ledger may hang, and a second Ctrl-C kills the process.
"""

import dataclasses
from typing import Final

RUN_AGAIN: Final = "Nothing is lost. Run the command again to do the rest."


@dataclasses.dataclass
class LastSentence:
    """Of the command that runs in this process."""

    text: str = RUN_AGAIN


LAST_SENTENCE: Final = LastSentence()
