"""The torture programme: prints one table of figures; exit status 1 if a figure is out of its bounds."""

import argparse
import pathlib
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.torture.figures import Figure, table
from tests.torture.options import Options
from tests.torture.parts import NOT_ON_POSTGRESQL, PARTS, PARTS_POSTGRESQL, Part

ROUNDS = 300
EXAMPLE = """\
example:
  make torture ARGS="--only kills --rounds 40 --seed 7"
  make torture ARGS="--ledger postgresql"
"""


def main(
    arguments: Sequence[str] | None = None,
    *,
    parts: Mapping[str, Part] = PARTS,
    parts_postgresql: Mapping[str, Part] = PARTS_POSTGRESQL,
) -> int:
    """Run the chosen parts one after the other, and return the exit status."""
    parser = _parser(dict.fromkeys([*parts, *parts_postgresql]))
    chosen = parser.parse_args(arguments)
    parts = parts_postgresql if chosen.ledger == "postgresql" else parts
    if strange := [part for part in chosen.only or () if part not in parts]:
        why = NOT_ON_POSTGRESQL.get(strange[0], "many processes on one ledger")
        parser.error(f"with --ledger {chosen.ledger} there is no part {strange[0]} ({why})")
    seed = int(time.time()) if chosen.seed is None else chosen.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    measured: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="kling-torture-") as name:
        for part in chosen.only or parts:
            folder = pathlib.Path(name) / part
            folder.mkdir()
            measured[part] = _measure(part, parts[part], folder, rounds=chosen.rounds, seed=seed)
    sys.stdout.write(table(measured))
    return 0 if all(figure.holds for figures in measured.values() for figure in figures) else 1


def _parser(parts: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make torture",
        description=__doc__,
        epilog=EXAMPLE + _parts_of_postgresql(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=ROUNDS,
        help=f"how often each part repeats its experiment (default {ROUNDS})",
    )
    parser.add_argument(
        "--seed", type=int, help="of all random choices (default: a new one, which is printed)"
    )
    parser.add_argument(
        "--ledger",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="where the ledgers are (default sqlite)",
    )
    parser.add_argument(
        "--only", action="append", choices=list(parts), metavar="PART", help=f"one part: {', '.join(parts)}"
    )
    return parser


def _parts_of_postgresql() -> str:
    parts_of: dict[str, list[str]] = {}
    for part, why in NOT_ON_POSTGRESQL.items():
        parts_of.setdefault(why, []).append(part)
    lines = [f"with --ledger postgresql: {', '.join(PARTS_POSTGRESQL)}; not"]
    lines += [f"  {', '.join(parts)}: {why}" for why, parts in parts_of.items()]
    return "\n".join(["", *lines, ""])


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _measure(name: str, part: Part, folder: pathlib.Path, *, rounds: int, seed: int) -> list[Figure]:
    """The part's figures and its time; a part that breaks becomes a wrong figure."""
    began = time.monotonic()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(name, total=None)

        def on_progress(done: int, of: int) -> None:
            progress.update(bar, completed=done, total=of)

        try:
            figures = part(Options(folder, rounds=rounds, seed=seed, on_progress=on_progress))
        except Exception:  # noqa: BLE001 -- the other parts must still be measured
            traceback.print_exc()
            figures = [Figure("ran to its end (see above)", 0, minimum=1)]
    return [*figures, Figure("minutes", round((time.monotonic() - began) / 60, 1))]


if __name__ == "__main__":
    sys.exit(main())
