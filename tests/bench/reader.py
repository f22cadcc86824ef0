"""Readers of one file in their own process: blocking sockets, bytes counted and dropped. Prints MB/s of all together.

With `--slow` one more reader takes 64 KiB each tenth of a second for as long, and has not ended when the others have.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

CHUNK_BYTES = 1024 * 1024
SLOW_BYTES = 64 * 1024


class Readers:
    """Threads that read `url` again and again until the time is up, with about `pause` seconds in between."""

    def __init__(self, url: str, *, count: int, seconds: float, pause: float, slow_url: str) -> None:
        self.url, self.slow_url = url, slow_url
        self.until = time.monotonic() + seconds
        self.pause = pause
        self.bytes_read = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._read_again) for _ in range(count)]
        if slow_url:
            self._threads.append(threading.Thread(target=self._read_slowly))

    def run(self) -> float:
        """MB/s of the quick readers."""
        began = time.monotonic()
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return self.bytes_read / 1e6 / (time.monotonic() - began)

    def _read_again(self) -> None:
        buffer = bytearray(CHUNK_BYTES)
        while time.monotonic() < self.until:
            with _opened(self.url) as line:
                while (count := line.recv_into(buffer)) and time.monotonic() < self.until:
                    with self._lock:
                        self.bytes_read += count
            time.sleep(random.uniform(0.5, 1.5) * self.pause)

    def _read_slowly(self) -> None:
        with _opened(self.slow_url) as line:
            while time.monotonic() < self.until:
                line.recv(SLOW_BYTES)
                time.sleep(0.1)


def _opened(url: str) -> socket.socket:
    parts = urlsplit(url)
    line = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60)
    target = f"{parts.path}?{parts.query}"
    line.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
    status = line.recv(12)
    if status[9:12] != b"200":
        raise RuntimeError(f"the answer is {status!r}")
    return line


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pause", type=float, default=0, help="seconds between two files of one reader")
    parser.add_argument("--slow", default="", help="the URL of what the slow reader reads")
    arguments = parser.parse_args()
    readers = Readers(
        arguments.url,
        count=arguments.count,
        seconds=arguments.seconds,
        pause=arguments.pause,
        slow_url=arguments.slow,
    )
    sys.stdout.write(json.dumps({"mb_per_second": readers.run()}) + "\n")
