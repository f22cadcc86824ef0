"""`python -m tests.project.licences`: writes deploy/licences.md, the licences of the packages that the daemon needs.

It reads the metadata of installed packages. A package that is locked for other systems only keeps its row.
"""

import importlib.metadata
import re

from tests.harness.repository import ROOT

PATH = ROOT / "deploy" / "licences.md"
HEAD = """\
# Licences

What the daemon needs, as pinned in `requirements.lock`, and the licence that each package's own metadata names.
Written by `make licences`, held against the installed packages by the tests.

| package | version | licence |
|---|---|---|
"""


def locked() -> dict[str, str]:
    """Every package of the runtime lock, for any system, with its version."""
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text()))


def written() -> dict[str, tuple[str, str]]:
    """The present table: package → version and licence."""
    rows = re.findall(r"(?m)^\| ([a-z0-9._-]+) \| (\d\S*) \| (.+) \|$", PATH.read_text())
    return {package: (version, licence) for package, version, licence in rows}


def named(package: str) -> str | None:
    """The licence in the metadata of the installed package; None where it is not installed."""
    try:
        found = importlib.metadata.metadata(package).json
    except importlib.metadata.PackageNotFoundError:
        return None
    classifiers = [one.rpartition(" :: ")[2] for one in found.get("classifier", []) if "License ::" in one]
    licence = found.get("license_expression") or ", ".join(sorted(classifiers)) or found.get("license")
    return str(licence or "none named")


def main() -> None:
    before = written() if PATH.exists() else {}
    rows = [
        f"| {package} | {version} | {named(package) or before.get(package, ('', 'unknown'))[1]} |\n"
        for package, version in sorted(locked().items())
    ]
    PATH.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
