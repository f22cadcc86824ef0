"""`python -m tests.fuzz payload --runs 100000`: exit status 0 if nothing was found, else it prints the bytes."""

import argparse
import importlib
import itertools
import pathlib
import resource
import sys
import tempfile
from collections.abc import Callable
from typing import Any

BYTES_MAX = 8192
MEMORY_BYTES_MAX = 1024 * 1024 * 1024
"""Of this process. More is a `MemoryError`, which is a finding with its bytes. Not libFuzzer's `-rss_limit_mb`: that
measures `ru_maxrss`, which a child process inherits from its parent."""


def _coverage_guided() -> Any:
    """atheris, after instrumenting the targets' imports; None, and a note on standard error, if it is missing."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError as error:
        sys.stderr.write(
            f"fuzz: without coverage, because atheris is missing ({error}): `make fuzz` installs it\n"
        )
        return None
    with atheris.instrument_imports(include=["archiver", "receiver"]):
        importlib.import_module("tests.fuzz.targets")
    return atheris


def main() -> int:
    """Run one target."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", help="payload, answers, places, media or urls")
    parser.add_argument("--runs", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--plain", action="store_true", help="only change samples at random, atheris or not")
    options = parser.parse_args()
    atheris = None if options.plain else _coverage_guided()
    targets = importlib.import_module("tests.fuzz.targets").TARGETS
    if options.target not in targets:
        parser.error(f"there is no target {options.target}, only {', '.join(targets)}")
    target = targets[options.target]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    check = _reporting(target.check, again=f"--seed {options.seed}")
    if atheris is None:
        mutants = importlib.import_module("tests.fuzz.mutation").mutants(target, seed=options.seed)
        for data in itertools.chain(target.samples, itertools.islice(mutants, options.runs)):
            check(data)
        print(f"{options.target}: {options.runs} random mutants, seed {options.seed}: nothing found")  # noqa: T201
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _guided(atheris, check, target, pathlib.Path(folder), options)
    return 0


def _reporting(check: Callable[[bytes], None], *, again: str) -> Callable[[bytes], None]:
    def reporting(data: bytes) -> None:
        try:
            check(data)
        except BaseException:
            sys.stderr.write(f"fuzz: these bytes failed ({again}):\n{data!r}\n")
            raise

    return reporting


def _guided(
    atheris: Any, check: Callable[[bytes], None], target: Any, folder: pathlib.Path, options: Any
) -> None:
    """Does not return: libFuzzer ends the process with `_exit`."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(target.samples):
        (corpus / str(number)).write_bytes(sample)
    words = folder / "words"
    words.write_text(
        "".join('"' + "".join(f"\\x{byte:02x}" for byte in word[:64]) + '"\n' for word in target.words)
    )
    arguments = [
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_len={BYTES_MAX}",
        f"-dict={words}",
        "-rss_limit_mb=0",
        f"-artifact_prefix={folder}/",
        "-timeout=10",
        "-print_final_stats=1",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup(["tests.fuzz", *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
