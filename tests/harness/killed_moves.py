"""Moves of a ledger that are ended by SIGKILL at a chosen moment, each in a process of its own.

The processes are forks of one that has imported all there is and runs nothing else: each costs no start.
"""

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

from archiver.ledger.moving.copying import Phase, Progress
from archiver.ledger.moving.move import move_ledger
from tests.harness.repository import ROOT

MOMENTS = (
    (Phase.PREPARE, 1),
    (Phase.COPY, 4),
    (Phase.INDEX, 5),
    (Phase.COMPARE, 3),
    (Phase.GIVE_UP, 1),
    (Phase.GIVE_UP, 2),
    (Phase.USE, 1),
)
"""In which phase, and at the how manieth sign of it."""


class KilledMoves:
    """Started with the block, ended with it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.killed_moves"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def kill(self, source: str, target: str, phase: Phase, sign: int) -> None:
        """Return once the process that moved is dead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{source} {target} {phase.name} {sign}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{-signal.SIGKILL}\n"


def _move(source: str, target: str, phase: Phase, sign: int) -> None:
    seen = 0

    def watch(progress: Progress) -> None:
        nonlocal seen
        seen += progress.phase is phase
        if seen == sign:
            os.kill(os.getpid(), signal.SIGKILL)

    move_ledger(source, target, watch=watch)


def _main() -> None:
    for line in sys.stdin:
        source, target, phase, sign = line.split()
        child = os.fork()
        if not child:
            try:
                _move(source, target, Phase[phase], int(sign))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
