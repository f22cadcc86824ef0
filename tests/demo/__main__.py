"""`python -m tests.demo`: `make demo` runs it, and `kling-archiver demo` calls `main`.

Exit status: 0 all right or stopped by you, 1 something is wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.demo.folder import held
from tests.demo.performance import performing
from tests.demo.stopping import DemoFailed, StopRequest
from tests.demo.view import View

DESCRIPTION = """\
The main job end to end: a simulated Kling account, a real S3 server, the real daemon. Tasks appear, callbacks come,
get lost, come twice or are forged, and every image ends up in the bucket, which is then compared byte for byte. An
application creates through the gateway, is told by forwards, and opens links, also once the account has deleted all.
Needs no settings and no root; takes free ports of 127.0.0.1 and the folder .demo, which it empties first.
In a pipe it ends by itself after the check; at a terminal it goes on with a new task every few seconds until Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, and return its exit status."""
    options = _options(arguments)
    stop = StopRequest()
    stop.listen()
    _ignore_proxies()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # typed as any TextIO
    terminal = sys.stdout.isatty()
    try:
        once = options.once or not terminal
        problems = _perform(stop, terminal=terminal, once=once, on_postgres=options.postgres)
    except DemoFailed as error:
        problems = [str(error)]
    for problem in problems:
        sys.stderr.write(f"demo: {problem}\n")
    return 1 if problems else 0


def _perform(stop: StopRequest, *, terminal: bool, once: bool, on_postgres: bool) -> list[str]:
    with held(Path.cwd()) as folder, View(sys.stdout, live=terminal) as view:
        with performing(folder, view=view, stop=stop, on_postgres=on_postgres) as performance:
            problems = performance.run(once=once)
        if problems:
            view.print_event("wrong", "the demo found something wrong; see below")
        else:
            view.print_event("ended", "in good order; .demo stays until the next demo")
        return problems


def _ignore_proxies() -> None:
    """Everything is on loopback, where a proxy from the environment would only be in the way."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo",
        usage='make demo [ARGS="--once --postgres"]',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="two doors, a gateway and two workers on a PostgreSQL of the demo's own, some killed on the way",
    )
    parser.add_argument("--once", action="store_true", help="end after the check, at a terminal too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
