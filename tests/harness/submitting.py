"""What the tests of `submit` share: settings, a command line, and what it created."""

from typing import Any

from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    CommandLine,
)
from tests.simulator import KlingSimulator

TOKEN = "callback-token-0123456789abcdef"
PUBLIC = {
    "KLING_PUBLIC_URL": "https://us.example/kling",
    "KLING_CALLBACK_TOKEN": f"{TOKEN},an-older-token-0123456789",
}


FOX = ("submit", FAMILY, "--prompt", "a red fox")


def beat(line: CommandLine) -> None:
    with line.ledger() as ledger:
        ledger.daemons.beat("d", version="1", started_at=line.now)


def sent(simulator: KlingSimulator) -> Any:
    """The one task that was created."""
    (task_id,) = simulator.task_ids()
    return simulator.task(task_id)


def request_of(line: CommandLine, name: str) -> Any:
    with line.ledger(daemon=False) as ledger:
        found = ledger.registrations.known(name, account=ACCOUNT)
        return found and found.request
