"""PgBouncer in transaction mode before a server, where it is installed."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from tests.postgres.server import as_ordinary_user
from tests.s3_servers.process import Process, free_port

_SETTINGS = """\
[databases]
* = host={folder} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 15
server_login_retry = 1
logfile =
pidfile =
"""


def find_pooler() -> str | None:
    """The program; Debian's lies where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running_pooler(folder: pathlib.Path) -> Iterator[int]:
    """Its port on loopback. `folder` has the server's socket."""
    program = find_pooler()
    assert program is not None
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(folder=folder, port=port))
    command = [*as_ordinary_user(folder), program, str(settings)]
    process = Process("PgBouncer", command, log=folder / "pgbouncer.log")
    try:
        process.wait_until_port(port)
        yield port
    finally:
        process.kill()
