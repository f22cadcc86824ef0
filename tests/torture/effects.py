"""Every effect of the pipeline goes wrong in every way, at each of its occurrences (see `test_effects`)."""

import pathlib
import sys
import tempfile

import structlog.testing

from tests.pipeline.effects import EFFECTS, Mishap
from tests.pipeline.stories import migrated_ledger, mishaps, suffer
from tests.simulator import KlingSimulator, Switches
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

OCCURRENCES_MAX = 4


def measure(options: Options) -> list[Figure]:
    """Independent of `options.rounds`."""
    tried = 0
    wrong: list[str] = []
    template_folder = options.folder / "template"
    template_folder.mkdir()
    template = migrated_ledger(template_folder)
    with KlingSimulator(switches=Switches(fresh_urls=False)) as sim:
        for number, effect in enumerate(EFFECTS):
            for occurrence in range(1, OCCURRENCES_MAX + 1):
                ended = [
                    _suffer(sim, options.folder, mishap, template=template, wrong=wrong)
                    for mishap in mishaps(effect, occurrence=occurrence)
                ]
                tried += sum(ended)
                if not any(ended):
                    break
            options.on_progress(number + 1, len(EFFECTS))
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return [
        Figure("effects", len(EFFECTS), minimum=len(EFFECTS)),
        Figure("cases (effect, time, way) tried", tried, minimum=2 * len(EFFECTS)),
        none_of("cases that ended wrong", len(wrong)),
    ]


def _suffer(
    sim: KlingSimulator, folder: pathlib.Path, mishap: Mishap, *, template: pathlib.Path, wrong: list[str]
) -> bool:
    """Whether the effect occurred; cases that ended wrong are added to `wrong`."""
    with tempfile.TemporaryDirectory(dir=folder) as name, structlog.testing.capture_logs():
        try:
            return suffer(sim, pathlib.Path(name), mishap, template=template)
        except AssertionError:
            wrong.append(f"ended wrong: {mishap}")
            return True
