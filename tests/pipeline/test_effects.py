"""Every effect of the whole pipeline × (failed, failed but happened) × (error, process killed right there).

After each, and whatever it was, the pipeline comes to the same bucket and the same ledger as if nothing had gone wrong.
The rows are the code's own list of effects (see `effects`), each with a story that comes by it (see `stories`).
"""

import pathlib
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.harness.pipeline import Pipeline
from tests.pipeline.effects import EFFECTS, METHODS, READS, WITHOUT_A_ROW, Mishap
from tests.pipeline.stories import PUTS, STORIES, everyday, forgetting, mishaps, suffer
from tests.simulator import KlingSimulator, Switches


@pytest.fixture(scope="module")
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator(switches=Switches(fresh_urls=False)) as simulator:
        yield simulator


def test_every_public_method_is_an_effect_or_has_a_reason_not_to_be() -> None:
    assert set(WITHOUT_A_ROW) <= set(METHODS)
    assert set(STORIES) | READS <= set(EFFECTS)
    assert {"ledger.callbacks.record", "client.query", "store.put", "reservation.write"} <= set(EFFECTS)


@pytest.mark.parametrize(
    "story", dict.fromkeys((everyday, *STORIES.values())), ids=lambda story: story.__name__
)
def test_a_story_ends_well_when_nothing_else_goes_wrong(
    sim: KlingSimulator, tmp_path: pathlib.Path, story: Callable[[Pipeline], None]
) -> None:
    with forgetting(sim), Pipeline(sim, tmp_path) as pipeline:
        story(pipeline)
        pipeline.run()

        pipeline.assert_settled()


@pytest.fixture(autouse=True)
def plain_tracebacks() -> None:
    """As the program writes them; the library's own, with every local variable, took a third of these tests' time."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


CASES = [one for effect in EFFECTS for one in mishaps(effect, occurrence=1)]
CASES += mishaps("store.put", occurrence=3)  # a manifest, the first two being files


@pytest.mark.parametrize("mishap", CASES, ids=str)
def test_whatever_goes_wrong_at_an_effect_the_end_is_the_same(
    sim: KlingSimulator, tmp_path: pathlib.Path, mishap: Mishap
) -> None:
    """The first time that the story comes by the effect; `make torture` does it at every time."""
    came_up = suffer(sim, tmp_path, mishap)

    assert came_up, f"no story comes by {mishap.label}: give it one in tests/pipeline/stories.py"


DOCUMENTS = [
    (story, one) for story, number in PUTS.items() for one in mishaps("store.put", occurrence=number)
]


@pytest.mark.parametrize(
    ("story", "mishap"), DOCUMENTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_whatever_goes_wrong_at_a_put_beside_or_instead_of_a_manifest_the_end_is_the_same(
    sim: KlingSimulator,
    tmp_path: pathlib.Path,
    story: Callable[[Pipeline], None],
    mishap: Mishap,
) -> None:
    assert suffer(sim, tmp_path, mishap, story=story)
