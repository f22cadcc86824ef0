"""What people install: the wheel and the sdist, as they are built."""

import email
import email.message
import pathlib
import re
import subprocess
import tarfile
import zipfile

import pytest

from archiver.version import VERSION
from tests.harness.interpreters import PYTHONS, interpreter
from tests.harness.repository import DEPLOY, ROOT
from tests.harness.wheel import Built, Installed, build, unpacked

NOT_FOR_USERS = re.compile(
    r"(^|/)(receiver/screenshots|test_[^/]*\.py|conftest\.py|__pycache__|\.[^/]*|.*\.(pyc|db|lock))(/|$)"
)
PLAYED = {"demo", "harness", "s3_servers", "simulator"}
"""Folders of `tests` that the demo plays."""


def files_of(wheel: pathlib.Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files_of_sdist(sdist: pathlib.Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def metadata_of(wheel: pathlib.Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def files_below(*folders: str) -> set[str]:
    """Paths from the root."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}


def test_the_wheel_has_every_file_of_both_packages_and_of_deploy(built: Built) -> None:
    wanted = {
        name.replace("deploy/", "archiver/bundled/deploy/", 1) if name.startswith("deploy/") else name
        for name in files_below("archiver", "receiver", "deploy")
        if not NOT_FOR_USERS.search(name)
    }
    packaged = {name for name in files_of(built.wheel) if not name.startswith("archiver/bundled/tests/")}

    assert {name for name in packaged if ".dist-info/" not in name} == wanted


def test_of_the_tests_the_wheel_has_only_what_the_demo_plays(built: Built) -> None:
    played = {
        name.removeprefix("archiver/bundled/tests/")
        for name in files_of(built.wheel)
        if name.startswith("archiver/bundled/tests/")
    }

    assert {name.partition("/")[0] for name in played} == {*PLAYED, "__init__.py"}


def test_no_test_no_cache_and_no_lock_is_in_wheel_or_sdist(built: Built) -> None:
    files = files_of(built.wheel) | files_of_sdist(built.sdist) - {"requirements.lock", ".gitignore"}

    assert {name for name in files if NOT_FOR_USERS.search(name.partition(".dist-info/")[0])} == set()


def test_two_builds_are_equal_byte_for_byte_and_so_is_one_out_of_the_sdist(
    built: Built, tmp_path: pathlib.Path
) -> None:
    again = build(unpacked(built.sdist, tmp_path / "source"), tmp_path / "dist")

    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.sdist.read_bytes() == built.sdist.read_bytes()


def test_the_metadata_name_the_licence_as_pep_639_does_and_no_host(built: Built) -> None:
    metadata = metadata_of(built.wheel)

    assert (metadata["Name"], metadata["Version"]) == ("kling-archiver", VERSION)
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata.get_all("Project-URL") is None
    assert metadata["Author"] == "the kling-archiver authors"
    assert [text for text in metadata.get_all("Classifier", []) if text.startswith("License ::")] == []


def test_every_python_that_is_named_is_one_that_is_tried(built: Built) -> None:
    metadata = metadata_of(built.wheel)
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(metadata.get_all("Classifier", [])), re.MULTILINE)

    assert tuple(named) == PYTHONS
    assert metadata["Requires-Python"] == f">={PYTHONS[0]}"


def test_both_packages_say_that_they_are_typed(built: Built) -> None:
    assert {"archiver/py.typed", "receiver/py.typed"} <= files_of(built.wheel)


def test_the_installed_programs_start_in_an_empty_folder_without_settings(installed: Installed) -> None:
    version, usage = installed.run("kling-archiver", "--version"), installed.run("kling-receiver", "--help")

    assert (version.stdout, version.stderr) == (f"kling-archiver {VERSION}\n", "")
    assert (usage.returncode, usage.stderr) == (0, "")
    assert "--edge-only" in usage.stdout


def test_the_installed_command_prints_the_files_of_deploy_as_they_are(installed: Installed) -> None:
    shown = installed.run("kling-archiver", "deploy", "show", "kling-receiver.service")

    assert shown.stdout == (DEPLOY / "kling-receiver.service").read_text()


@pytest.mark.parametrize("version", PYTHONS[1:])
def test_the_code_compiles_under_every_python_that_is_named(version: str, tmp_path: pathlib.Path) -> None:
    """`make pythons` installs it there with all that it needs, out of an index."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here: install it, or put one under ~/.pyenv/versions")
    script = (
        f"import compileall, sys; sys.pycache_prefix = {str(tmp_path)!r}; "
        "sys.exit(not all([compileall.compile_dir(folder, quiet=1) for folder in sys.argv[1:]]))"
    )
    done = subprocess.run(
        [python, "-I", "-W", "error", "-c", script, str(ROOT / "archiver"), str(ROOT / "receiver")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
