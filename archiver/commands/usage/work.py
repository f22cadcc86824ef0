"""Usage of `work`."""

import typer


def work(context: typer.Context) -> None:
    """Verify, archive, sweep and forward on a PostgreSQL ledger.

    Runs beside `kling-receiver --edge-only`. Any number of both may share a ledger. Needs the credentials of Kling
    and of the bucket, and no callback token. Serves /healthz, /readyz and /metrics on KLING_PORT. SIGTERM ends it,
    and gives unfinished work back to the ledger.

    \b
    Example: one of several, each with the same settings
      export KLING_LEDGER_URL=postgresql://kling@db/kling
      kling-archiver work
    """
