"""The runbook has a section for every problem, and speaks of every reason of a hold and of a burial."""

import re
from collections.abc import Iterator

from archiver import failures, model
from archiver.failures import Disposition, Failure
from archiver.ledger.views.assets import AssetView
from archiver.model import Asset, Role
from tests.harness.deployment import DEPLOY
from tests.harness.repository import ROOT

README = (DEPLOY / "README.md").read_text()
RUNBOOK = README.partition("\n## Runbook\n")[2].partition("\n## ")[0]


def section(heading: str) -> str:
    return RUNBOOK.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]


def kinds(of: type[Failure] = Failure) -> Iterator[type[Failure]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_the_runbook_has_a_section_for_every_problem_code_which_says_what_to_do_and_when_it_is_over() -> None:
    headings = re.findall(r"^### ([a-z_]+)$", RUNBOOK, re.MULTILINE)

    assert sorted(headings) == sorted(model.PROBLEM_CODES)
    for code in headings:
        for word in ("**Means**", "**At risk**", "**Do**", "**Over**"):
            assert word in re.sub(r"\s+", " ", section(code)), f"{word} of {code}"


def test_the_codes_of_the_runbook_are_those_that_the_program_has() -> None:
    sources = [*(ROOT / "archiver").rglob("*.py"), *(ROOT / "receiver").rglob("*.py")]
    found = {
        code
        for path in sources
        for code in re.findall(r'(?:Problem|_of_tasks)\(\s*"([a-z_]+)"', path.read_text())
    }

    assert found <= set(model.PROBLEM_CODES)
    assert set(model.PROBLEM_CODES) - found <= {"no_worker", "no_door"}, "which stand in a table"


def test_the_runbook_says_what_to_do_about_every_reason_of_a_hold() -> None:
    held = {
        kind.reason
        for kind in kinds()
        if kind.disposition is Disposition.HOLD
        or (kind.disposition is Disposition.RETRY and kind.outside is not None and kind.what_to_do)
    }
    passing = {"spool_busy"}
    """Tried again by itself, and sets no hold."""

    assert held - passing - set(re.findall(r"`([a-z_]+)`", section("hold"))) == set()
    assert {"api_credentials_refused", "store_unreachable", "host_down"} <= held


def test_the_runbook_names_no_reason_that_the_program_does_not_have() -> None:
    rows = [row for row in section("hold").splitlines() if row.startswith("| `")]
    named = {reason for row in rows for reason in re.findall(r"`([a-z_]+)`", row.split("|")[1])}

    assert named - {kind.reason for kind in kinds()} == set()


def test_what_the_runbook_finds_in_show_is_there() -> None:
    view = AssetView(
        Asset("0", "https://cdn.example/0.png", Role.IMAGE, 0, watermarked=False),
        None,
        None,
        None,
        None,
        None,
    )
    named = set(re.findall(r"`assets\[\]\.([a-z_0-9]+)`", README))

    assert named <= view.as_json(None).keys()
    for heading in ("deadline", "hold"):
        assert "`assets[].url`" in section(heading)


def test_the_runbook_says_what_to_do_about_every_reason_of_a_burial() -> None:
    buried = {kind.reason for kind in kinds() if kind.disposition is Disposition.BURY}
    of_the_api = {failures.NotOffered.reason}
    """Of an endpoint, not of a task."""

    assert buried - of_the_api - set(re.findall(r"`([a-z_]+)`", section("buried"))) == set()
