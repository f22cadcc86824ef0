"""Every family, in both dialects, with every kind of credential, by every way in, ends in the bucket or says why not.

The table is generated: what is expected of a row follows from a few rules (`expected`), and what is checked is what a
reader of the bucket sees. The account is the simulator over a real socket; all else but the store is the product's.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest

from archiver.engine.sweep_loop import SweepLoop
from archiver.failures import Failure
from archiver.families import COLLECTION_SWEEPS, collection_of
from archiver.kling.new_standard import NewStandardTask
from archiver.ledger import Ledger
from archiver.model import Callback, Lease
from archiver.verify.availability import Availability
from archiver.verify.new_standard import BatchQuery
from archiver.verify.stage import Verifier
from receiver.callbacks import payload
from tests.harness.engine import ACCOUNT, Engine, EngineClock
from tests.harness.journal import Impatient
from tests.simulator import KlingSimulator, Switches
from tests.simulator.families import FAMILIES

Mode = Literal["keys", "api_key", "gateway"]
Way = Literal["callback", "callback_without_family", "callback_in_new_dialect", "sweep", "registration"]

MODES: tuple[Mode, ...] = ("keys", "api_key", "gateway")
WAYS: tuple[Way, ...] = (
    "callback",
    "callback_without_family",
    "callback_in_new_dialect",
    "sweep",
    "registration",
)
CONFIGURED = ("images/generations", "videos/text2video")
"""Configured in every row, besides the row's own family: so that there are always others to try."""
ROUNDS_MAX = 40


@dataclasses.dataclass(frozen=True)
class Row:
    family: str
    mode: Mode
    way: Way

    @property
    def id(self) -> str:
        return f"{self.family}-{self.mode}-{self.way}"


@dataclasses.dataclass(frozen=True)
class Expected:
    """`state` None: the ledger does not know it."""

    state: str | None
    reason: str | None = None


ROWS = [Row(*each) for each in itertools.product(FAMILIES, MODES, WAYS)]


def expected(row: Row) -> Expected:
    """A family of its own path is archived by any credential, but nothing finds it where nothing can be listed; what
    only `/tasks` and `/solutions` know takes an API Key, and an API that has them."""
    if collection_of(row.family) is None:
        listed = row.mode != "gateway" or row.way != "sweep"
        return Expected("archived") if listed else Expected(None)
    if row.mode == "api_key":
        return Expected("archived")
    if row.way == "sweep":
        return Expected(None)
    return Expected("buried", "needs_api_key" if row.mode == "keys" else "api_not_offered")


class Surface:
    """One account and the engine that archives it; every row has a task, and settings of families, of its own."""

    def __init__(self, mode: Mode, folder: pathlib.Path) -> None:
        gateway = mode == "gateway"
        switches = Switches(lists_offered=not gateway, tasks_offered=not gateway, tokens_taken=not gateway)
        clock = (
            EngineClock()
        )  # one for both: the rows of another mode take real time, and a sweep ends at the ledger's now
        self.sim = KlingSimulator(
            now=lambda: clock.now() / 1000, switches=switches, prefix="/kling" if gateway else ""
        )
        self.engine = Engine(self.sim, folder, api_key=mode != "keys", clock=clock)
        self.ledger: Ledger = self.engine.ledger
        self.offers = Availability(account=ACCOUNT, ledger=self.ledger, now=self.engine.clock.now)
        self.swept: list[str] = []

    def create(self, family: str) -> str:
        """A finished task of two rows, whose indexes the API gives in an order of its own."""
        indexed = FAMILIES[family].arrays[0].id_field == "index"
        task_id = self.sim.create_task(family=family, images=2, indexes=[3, 1] if indexed else None)
        self.sim.succeed(task_id)
        self.engine.clock.advance(seconds=1)  # the end of a window of `/solutions` does not belong to it
        return task_id

    def arrive(self, task_id: str, row: Row) -> None:
        """The task comes to our knowledge, or its time for that goes by."""
        if row.way == "registration":
            self.ledger.registrations.register(task_id, account=ACCOUNT, family=row.family)
        elif row.way == "sweep":
            self.sweep(row.family)
        else:
            body = self.sim.callback_body(task_id, new_standard=row.way == "callback_in_new_dialect")
            hint = None if row.way == "callback_without_family" else row.family
            callback = payload.parse(body, account=ACCOUNT, family_hint=hint)
            assert isinstance(callback, Callback)
            self.ledger.callbacks.record([callback])

    def sweep(self, family: str) -> None:
        """One turn of the daemon's own sweep loop over all that this family's sweep is."""
        collection = collection_of(family)
        names = [family] if collection is None else [COLLECTION_SWEEPS[collection]]
        if not self.engine.client.has_api_key:
            names = [name for name in names if collection_of(name) is None]
        stages = self.engine.stages_for((family, *CONFIGURED))
        SweepLoop(
            sweeper=dataclasses.replace(stages.sweeper, availability=self.offers),
            families=tuple(names),
            ledger=self.ledger,
            interval_seconds=1,
            stop=Impatient(),
            on_swept=self.swept.append,
            monotonic=self.engine.clock.monotonic,
        ).step()

    def work(self, task_id: str, family: str) -> None:
        """What the daemon's loops do, until the task rests."""
        stages = self.engine.stages_for((family, *CONFIGURED))
        lists = dataclasses.replace(stages.verifier.lists, availability=self.offers)
        verifier = dataclasses.replace(stages.verifier, lists=lists)
        lookup = dataclasses.replace(stages.batch_query, availability=self.offers)
        for _ in range(ROUNDS_MAX):
            if self.state(task_id) not in ("reported", "running"):
                break
            self.engine.clock.advance(seconds=60)
            self._ask(verifier, lookup)
        while self.state(task_id) == "succeeded":
            assert self.engine.attempt() is None

    def _ask(self, verifier: Verifier, lookup: BatchQuery) -> None:
        many = lookup.is_offered()
        shown: Mapping[str, NewStandardTask | Failure] | None = None
        crowd = self.ledger.claims.batch(count=20, offset=0, account=ACCOUNT) if many else []
        if crowd:
            shown = lookup.ask(crowd)
        singly = self.ledger.claims.verify(count=4, offset=0, own_paths_only=many, account=ACCOUNT)
        for lease, answer in [*((one, shown) for one in crowd), *((one, None) for one in singly)]:
            self._ask_one(verifier, lease, answer)

    def _ask_one(
        self, verifier: Verifier, lease: Lease, shown: Mapping[str, NewStandardTask | Failure] | None
    ) -> None:
        try:
            verifier.ask(lease, shown)
        except Failure as error:
            self.engine.failure_handler.handle(lease, error)

    def state(self, task_id: str) -> str | None:
        shown = self.ledger.views.show(task_id, account=ACCOUNT)
        return None if shown is None else str(shown.state)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Mode, Surface]]:
    """One account for each mode; all rows of a mode share it, as a real account's tasks do."""
    made: dict[Mode, Surface] = {mode: Surface(mode, tmp_path_factory.mktemp(mode)) for mode in MODES}
    for surface in made.values():
        surface.sim.__enter__()
    yield made
    for surface in made.values():
        surface.engine.__exit__(None, None, None)
        surface.sim.__exit__(None, None, None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_task_of_every_family_ends_in_the_bucket_or_says_why_not(
    surfaces: dict[Mode, Surface], row: Row
) -> None:
    surface = surfaces[row.mode]
    task_id = surface.create(row.family)

    surface.arrive(task_id, row)
    surface.work(task_id, row.family)

    wanted = expected(row)
    assert surface.state(task_id) == wanted.state
    if wanted.state == "archived":
        surface.engine.assert_archived(task_id, row.family)
        assert_manifest(surface.engine.manifest(task_id, row.family), row)
    elif wanted.state is not None:
        assert surface.engine.show(task_id)["reason"] == wanted.reason
        assert surface.engine.names(task_id, row.family) == []
    assert surface.sim.complaints == []  # with AK/SK, a question at /tasks would be one
    assert surface.ledger.holds.all() == ()


def assert_manifest(manifest: dict[str, Any], row: Row) -> None:
    """The family is its own, and the task is the API's fullest word: that of its own path where it has one."""
    ways = {"sweep": "sweep", "registration": "registration"}
    own_path = collection_of(row.family) is None
    task = manifest["task"]

    assert manifest["family"] == row.family
    assert manifest["discovered_by"] == ways.get(row.way, "callback")
    assert ("task_id" in task, "id" in task) == (own_path, not own_path)
    if FAMILIES[row.family].arrays[0].id_field == "index":
        assert sorted({asset["index"] for asset in manifest["assets"]}) == [1, 3]
    if FAMILIES[row.family].parent_video:
        assert task["task_info"]["parent_video"]["url"].endswith(".mp4")
        assert not any("parent" in asset["source_url"] for asset in manifest["assets"])
    assert [asset["suspect"] for asset in manifest["assets"]] == [None] * len(manifest["assets"])


def test_the_table_has_every_family_that_makes_files() -> None:
    from archiver.families import FAMILIES as KNOWN  # noqa: PLC0415 -- beside the simulator's table of the same name

    assert set(KNOWN) - set(FAMILIES) == {"general/advanced-custom-elements"}  # whose rows are undocumented
    assert len(ROWS) == len(FAMILIES) * 15
