"""The exit status of a daemon that cannot start: 2 for what only settings mend, 1 for what may pass."""

import contextlib
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from archiver.config.roles import ProcessRole
from archiver.ledger import Ledger
from receiver.daemon import PASSING_STATUS, SETTINGS_STATUS, Refused, run
from tests.postgres import PostgresServer, plain_engine

FATAL_ALERT = bytes([21, 3, 3, 0, 2, 2, 80])
"""TLS: internal_error."""


def refusal_of(ledger_url: str, *, role: ProcessRole = ProcessRole.DOOR) -> Refused:
    settings = {
        "KLING_CALLBACK_TOKEN": "t" * 24,
        "KLING_API_KEY": "k" * 24,
        "KLING_S3_BUCKET": "bucket",
        "KLING_LEDGER_URL": ledger_url,
    }
    with pytest.raises(Refused) as caught:
        run(settings, role=role)
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

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield listening.getsockname()[1]
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        serving.join()


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


def test_a_right_and_an_encoding_that_another_person_mends_may_come(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    engine = plain_engine(postgres_server.url("postgres"))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE bare LOGIN")
        connection.exec_driver_sql(
            f"CREATE DATABASE {name}_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
        )
    folder = postgres_server.folder
    try:
        refusals = [
            refusal_of(f"postgresql://bare@/{name}?host={folder}"),
            refusal_of(f"postgresql://postgres@/{name}_latin?host={folder}"),
        ]
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("DROP ROLE bare")
            connection.exec_driver_sql(f"DROP DATABASE {name}_latin")
        engine.dispose()
        postgres_server.drop_database(name)

    assert [refusal.status for refusal in refusals] == [PASSING_STATUS] * 2
    assert "GRANT CREATE" in str(refusals[0])
    assert "ENCODING 'UTF8'" in str(refusals[1])


def test_a_ledger_that_another_daemon_still_has_and_a_folder_that_is_not_mounted_yet_may_come(
    tmp_path: pathlib.Path,
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with contextlib.closing(Ledger.open(url, daemon=True)):
        taken = refusal_of(url, role=ProcessRole.WHOLE)
    unmounted = refusal_of(f"sqlite:///{tmp_path}/mount/ledger.db", role=ProcessRole.WHOLE)

    assert (taken.status, unmounted.status) == (PASSING_STATUS, PASSING_STATUS)
    assert "a kling-receiver already works on the ledger" in str(taken)
    assert "does not exist" in str(unmounted)


def test_a_file_that_is_no_ledger_is_final(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ledger.db").write_text("something else, and longer than the header of a ledger " * 3)

    refusal = refusal_of(f"sqlite:///{tmp_path}/ledger.db", role=ProcessRole.WHOLE)
    assert refusal.status == SETTINGS_STATUS


def test_a_refusal_that_only_other_settings_end_is_final() -> None:
    for url in (
        "postgresql://kling:word@db:no-port/kling",
        "mysql://db/kling",
    ):
        assert refusal_of(url).status == SETTINGS_STATUS
