"""The commands of `kling-archiver`, one module or package each. They print what the engine decides.

`terminal` has what all of them share; `status_checks` decides what `status --check` reports.
"""
