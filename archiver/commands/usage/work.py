"""Usage of `work`."""

import typer


def work(context: typer.Context) -> None:
    """Verify, archive, sweep and forward on a PostgreSQL ledger.

    For several processes on one ledger, beside `kling-receiver --edge-only`: any number of each. Needs the
    credentials of Kling and of the bucket, and no callback token. Serves /healthz, /readyz and /metrics on
    KLING_PORT. SIGTERM ends it, and gives back what is not finished.

    \b
    Example: one of several, each with the same settings
      export KLING_LEDGER_URL=postgresql://kling@db/kling
      kling-archiver work
    """
