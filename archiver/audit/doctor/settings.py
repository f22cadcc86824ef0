"""Doubts about the settings themselves; settings that cannot be intended were refused before."""

from collections.abc import Iterator

from archiver.audit.doctor.finding import Finding, Verdict, ok, warning
from archiver.audit.doctor.subject import Subject
from archiver.phrases import count_of


def doubts(subject: Subject) -> Iterator[Finding]:
    """The doubts, for the look at start; nothing if there are none."""
    for sentence in subject.notes:
        yield Finding(Verdict.WARNING, sentence)
    for problem in subject.doubts:
        yield Finding(Verdict.WARNING, problem.message, problem.what_to_do, account=problem.account)


def settings(subject: Subject) -> Iterator[Finding]:
    """The doubts, or that all is well."""
    found = list(doubts(subject))
    if not subject.has_token:
        found.append(
            warning(
                "KLING_CALLBACK_TOKEN is not set: kling-receiver does not start without it",
                "Set it, or run `kling-archiver work` only.",
            )
        )
    yield from found or [ok(f"{count_of(len(subject.accounts), 'account')}, no doubtful setting")]
