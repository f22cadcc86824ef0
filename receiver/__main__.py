"""`kling-receiver`, the command line of `daemon`, which is imported only when it runs: `--help` and `--version` answer
within 0.2 s, and the daemon takes ten times as long to import.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from archiver.ending import end_process
from archiver.version import VERSION

USAGE = """\
usage: kling-receiver [--check] [--edge-only | --gateway-only] [--help] [--version]

Receives Kling's callbacks, verifies each task with the API and saves its files in your S3 bucket. Settings come
from KLING_… environment variables, or from the TOML file that KLING_CONFIG names. To read about all of them:
kling-archiver deploy show settings.md

  --check         check API, bucket, ledger, spool and clock as the daemon does when it starts, print the findings and
                  end: 0 all is well, 1 a check has failed, 2 wrong settings. Writes nothing
  --edge-only     only receive callbacks; `kling-archiver work` does the rest on the same ledger, any number of each.
                  Needs a ledger in PostgreSQL and a callback token, and no credentials of Kling or the bucket
  --gateway-only  only answer Kling's own paths and links, as KLING_GATEWAY=on does in a whole daemon. Needs a ledger
                  in PostgreSQL, Kling's credentials, the bucket and its credentials, KLING_CALLBACK_TOKEN,
                  KLING_LINK_SECRET and KLING_PUBLIC_URL
  --help          print this text
  --version       print the version

example:
  KLING_ACCESS_KEY=… KLING_SECRET_KEY=… KLING_S3_BUCKET=my-results KLING_CALLBACK_TOKEN=… kling-receiver
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 stopped in order or checked, 1 broken, or kept from starting by what may pass, 2 usage
    or settings.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"], ["--version"]):
        sys.stdout.write(f"kling-receiver {VERSION}\n" if given == ["--version"] else USAGE)
        return 0
    roles = [argument for argument in given if argument in {"--edge-only", "--gateway-only"}]
    if len(roles) > 1 or len(set(given)) < len(given) or not set(given) <= {"--check", *roles}:
        return _refuse(f"unknown arguments: {' '.join(given)}\n\n{USAGE}")
    gc.disable()  # collections would walk through all that is imported, again and again: 0.2 s
    # Imported here for the reason at the head.
    from archiver.config.roles import ProcessRole  # noqa: PLC0415
    from receiver import daemon  # noqa: PLC0415

    gc.enable()

    role = ProcessRole(" ".join(["kling-receiver", *roles]))
    try:
        return daemon.run(os.environ, role=role, is_check="--check" in given)
    except daemon.Refused as refusal:
        return _refuse(str(refusal), status=refusal.status)
    finally:
        gc.freeze()  # a last collection at the end of the process finds nothing either: 0.3 s


def _refuse(message: str, *, status: int = 2) -> int:
    sys.stderr.write(f"kling-receiver: {message}\n")
    return status


def run() -> NoReturn:
    """The program: `main`, and the end of the process."""
    end_process(main())


if __name__ == "__main__":
    run()
