"""`make bench`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import door, gateway, links, memory, transfers


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("figures", nargs="*", default=["door", "transfers", "memory", "gateway", "links"])
    parser.add_argument("--seconds", type=float, default=5, help="length of each round at the door")
    parser.add_argument(
        "--images",
        type=int,
        default=600,
        help="images in each round of transfers; half as many with distance",
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
            else:
                parser.error(f"no such figure: {figure} (door, transfers, memory, gateway, links)")
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
