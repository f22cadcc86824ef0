"""The exit status of a daemon that cannot start: 2 for what only settings mend, 1 for what may pass."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from archiver.config.roles import ProcessRole
from receiver.daemon import PASSING_STATUS, SETTINGS_STATUS, Refused, run
from tests.postgres import PostgresServer, plain_engine

FATAL_ALERT = bytes([21, 3, 3, 0, 2, 2, 80])
"""TLS: internal_error."""


def refusal_of(ledger_url: str) -> Refused:
    with pytest.raises(Refused) as caught:
        run({"KLING_CALLBACK_TOKEN": "t" * 24, "KLING_LEDGER_URL": ledger_url}, role=ProcessRole.DOOR)
    return caught.value


@contextlib.contextmanager
def dying_in_the_handshake(last_words: bytes) -> Iterator[int]:
    """A server that agrees to TLS, and no more; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(8)
                        connection.sendall(b"S")
                        connection.recv(4096)
                        connection.sendall(last_words)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("last_words", [b"", FATAL_ALERT], ids=["eof", "alert"])
def test_a_server_that_goes_down_during_the_handshake_may_come_back(last_words: bytes) -> None:
    with dying_in_the_handshake(last_words) as port:
        refusal = refusal_of(f"postgresql://kling:word@127.0.0.1:{port}/kling?sslmode=require")

    assert refusal.status == PASSING_STATUS
    assert "SSL" in str(refusal)


def test_a_database_under_maintenance_may_open_again(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    engine = plain_engine(postgres_server.url("postgres"))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        refusal = refusal_of(postgres_server.url(name))
    finally:
        engine.dispose()
        postgres_server.drop_database(name)

    assert refusal.status == PASSING_STATUS
    assert "ALLOW_CONNECTIONS true" in str(refusal)


def test_what_only_settings_mend_is_final() -> None:
    for url in (
        "postgresql://kling:word@db:no-port/kling",
        "sqlite:////nowhere/ledger.db",
        "mysql://db/kling",
    ):
        assert refusal_of(url).status == SETTINGS_STATUS
