"""Starts and ends the processes of a measurement."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def python(
    arguments: Sequence[str], *, port: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python arguments…` until the block ends; enter it when `port` listens."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **(environ or {})}, stdout=sink, stderr=sink
        )
    try:
        _wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not listen:\n{log.read_text()[-2000:]}")


def daemon_environment(folder: Path, *, port: int, **more: str) -> dict[str, str]:
    """Settings of a daemon whose API is unreachable: its engine queries in vain while the door works."""
    return {
        "KLING_ACCESS_KEY": "bench-access-key",
        "KLING_SECRET_KEY": "bench-secret-key-bench-secret-key",
        "KLING_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "KLING_CALLBACK_TOKEN": "bench-callback-token",
        "KLING_S3_BUCKET": "bench",
        "KLING_S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "KLING_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "KLING_PORT": str(port),
        "KLING_DRAIN_SECONDS": "0",
        "KLING_LOG_FORMAT": "json",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench-bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        **more,
    }
