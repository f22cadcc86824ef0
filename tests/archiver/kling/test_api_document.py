"""`archiver/kling/API.md`, which comments cite by section."""

import re

from tests.harness.repository import ROOT

DOCUMENT = ROOT / "archiver" / "kling" / "API.md"
CITATION = re.compile(r"API\.md ((?:[0-9]+(?:\.[0-9]+)?(?:, | and )?)+)")


def sections() -> set[str]:
    return set(re.findall(r"^##+ ([0-9]+(?:\.[0-9]+)?)\.? ", DOCUMENT.read_text(), re.MULTILINE))


def test_every_section_that_is_cited_is_there() -> None:
    missing = {
        (path.relative_to(ROOT).as_posix(), number)
        for folder in ("archiver", "receiver", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for cited in CITATION.findall(path.read_text())
        for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", cited)
        if number not in sections()
    }

    assert {"1.3", "5.3", "8.3"} <= sections()
    assert missing == set()
