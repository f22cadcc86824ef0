"""`python -m tests.simulator`: the account as its own process, for demos and black-box suites. Loopback only.

With `--json-ready` the first line on standard output is a JSON object with the URL and the keys, printed once
the port answers. SIGTERM, SIGINT or the end of standard input (with `--until-eof`) stops it; the last line is a
JSON object with the counts and complaints, and the exit status is 1 if there were any complaints.
"""

import argparse
import json
import signal
import sys
import threading

from tests.simulator import KlingSimulator, Switches


def main() -> int:
    options = _options()
    switches = Switches(
        image_size=(options.pixels, options.pixels),
        progress_seconds=None if options.progress is None else tuple(options.progress),
        signing_secret=options.signing_secret,
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with KlingSimulator(port=options.port, prefix=options.prefix, switches=switches) as sim:
        for _ in range(options.history):
            sim.create_task(status="succeed", images=2)
        ready = {
            "base_url": sim.base_url,
            "origin": sim.origin,
            "access_key": sim.access_key,
            "secret_key": sim.secret_key,
            "api_key": sim.api_key,
        }
        _say(ready if options.json_ready else f"Kling account simulator on {sim.base_url}")
        if options.until_eof:
            threading.Thread(target=_set_at_eof, args=(stopping,), daemon=True).start()
        stopping.wait()
    _say({"requests": dict(sim.requests), "complaints": sim.complaints})
    return 1 if sim.complaints else 0


def _set_at_eof(stopping: threading.Event) -> None:
    sys.stdin.read()
    stopping.set()


def _say(what: object) -> None:
    sys.stdout.write((what if isinstance(what, str) else json.dumps(what)) + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description="A simulated Kling account."
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--json-ready", action="store_true", help="print URL and keys as JSON when ready")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    parser.add_argument("--prefix", default="", help="gateway path before /v1, such as /kling")
    parser.add_argument("--pixels", type=int, default=24, help="width and height of the images")
    parser.add_argument("--history", type=int, default=0, help="succeeded tasks to begin with")
    parser.add_argument("--signing-secret", help="whsec_…: sign callbacks")
    parser.add_argument(
        "--progress",
        type=float,
        nargs=2,
        metavar=("PROCESSING", "SUCCEED"),
        help="seconds after creation until a task moves by itself",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
