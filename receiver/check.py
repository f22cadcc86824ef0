"""`kling-receiver --check`: prints what the daemon would depend on. It creates nothing.

The checks are those of `kling-archiver doctor` that write nothing and need no daemon (archiver/audit/doctor):

    ok       bucket kling-results
    failed   API of default: …
             what to do
"""

from collections.abc import Callable, Collection, Iterator

from archiver.audit import doctor
from archiver.audit.doctor import Finding, Subject, Verdict


def run(subject: Subject, *, secrets: Collection[str], write: Callable[[str], object]) -> int:
    """Print each finding as soon as it is known; 0, or 1 if anything has failed."""
    verdicts = set[Verdict]()
    for _, findings in doctor.run(doctor.start_checks(subject), secrets=secrets):
        for finding in findings:
            verdicts.add(finding.verdict)
            for line in _lines(finding):
                write(line + "\n")
    return int(Verdict.FAILED in verdicts)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.verdict:<8} {finding.message}"
    if finding.what_to_do:
        yield f"{'':<8} {finding.what_to_do}"
