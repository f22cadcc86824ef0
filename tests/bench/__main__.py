"""`make bench`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import console, door, gateway, idle, large_ledger, links, memory, transfers

FIGURES = ["door", "transfers", "memory", "gateway", "links", "idle", "console"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("figures", nargs="*", default=FIGURES)
    parser.add_argument("--seconds", type=float, default=5, help="length of each round at the door")
    parser.add_argument(
        "--images",
        type=int,
        default=600,
        help="images in each round of transfers; half as many with distance",
    )
    parser.add_argument(
        "--tasks", type=int, default=large_ledger.TASKS, help="in the ledger of the console: minutes to make"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kling-bench-") as name:
        folder = Path(name)
        for figure in arguments.figures:
            where = folder / figure
            where.mkdir()
            if figure == "door":
                lines = door.measure(where, seconds=arguments.seconds)
            elif figure == "transfers":
                lines = transfers.measure(where, images=arguments.images)
            elif figure == "memory":
                lines = memory.measure(where)
            elif figure == "gateway":
                lines = gateway.measure(where, seconds=arguments.seconds)
            elif figure == "links":
                lines = links.measure(where, seconds=arguments.seconds)
            elif figure == "idle":
                lines = idle.measure(where, seconds=arguments.seconds, images=arguments.images)
            elif figure == "console":
                lines = console.measure(where, seconds=arguments.seconds, tasks=arguments.tasks)
            else:
                parser.error(f"no such figure: {figure} ({', '.join(FIGURES)})")
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
