"""`doctor`: everything that the daemon depends on, looked at once, with what to do where something is amiss.

`table` lists the checks, `running` runs them beside each other, each with an end. A check is a function that yields
`Finding`s; what it needs of the settings is in `subject`. `kling-receiver --check` runs those of the look at start.
"""

from archiver.audit.doctor.finding import Check, Finding, Verdict
from archiver.audit.doctor.running import run
from archiver.audit.doctor.subject import PublicSide, Subject
from archiver.audit.doctor.table import all_checks, start_checks

__all__ = ["Check", "Finding", "PublicSide", "Subject", "Verdict", "all_checks", "run", "start_checks"]
