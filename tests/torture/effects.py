"""Every effect of the pipeline goes wrong in every way, at each of its occurrences (see `test_effects`)."""

import contextlib
import pathlib
import sys
import tempfile

import structlog.testing

from tests.harness.by_hand import PostgresByHand
from tests.pipeline.effects import EFFECTS, Mishap
from tests.pipeline.stories import mishaps, suffer
from tests.postgres import BlankDatabase, running_postgres
from tests.simulator import KlingSimulator, Switches
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

OCCURRENCES_MAX = 4


def measure(options: Options) -> list[Figure]:
    """Independent of `options.rounds`."""
    return _Cases(options).try_all()


def measure_on_postgresql(options: Options) -> list[Figure]:
    """The same on one PostgreSQL, emptied for each case."""
    with running_postgres() as server:
        database = BlankDatabase(server)
        try:
            return _Cases(options, database).try_all()
        finally:
            database.close()


class _Cases:
    """All of them, and those that ended wrong."""

    def __init__(self, options: Options, database: BlankDatabase | None = None) -> None:
        self._options = options
        self._database = database
        self._wrong: list[str] = []

    def try_all(self) -> list[Figure]:
        tried = 0
        with KlingSimulator(switches=Switches(fresh_urls=False)) as sim:
            for number, effect in enumerate(EFFECTS):
                for occurrence in range(1, OCCURRENCES_MAX + 1):
                    ended = [self._suffer(sim, mishap) for mishap in mishaps(effect, occurrence=occurrence)]
                    tried += sum(ended)
                    if not any(ended):
                        break
                self._options.on_progress(number + 1, len(EFFECTS))
        sys.stdout.writelines(f"{line}\n" for line in self._wrong)
        return [
            Figure("effects", len(EFFECTS), minimum=len(EFFECTS)),
            Figure("cases (effect, time, way) tried", tried, minimum=2 * len(EFFECTS)),
            none_of("cases that ended wrong", len(self._wrong)),
        ]

    def _suffer(self, sim: KlingSimulator, mishap: Mishap) -> bool:
        """Whether the effect occurred."""
        with contextlib.ExitStack() as opened:
            opened.enter_context(structlog.testing.capture_logs())
            folder = pathlib.Path(opened.enter_context(tempfile.TemporaryDirectory(dir=self._options.folder)))
            by_hand = None
            if self._database is not None:
                self._database.empty()
                by_hand = opened.enter_context(contextlib.closing(PostgresByHand(self._database)))
            try:
                return suffer(sim, folder, mishap, by_hand=by_hand)
            except AssertionError:
                self._wrong.append(f"ended wrong: {mishap}")
                return True
