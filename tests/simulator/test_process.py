"""The simulator as a process: it starts, stops and leaves nothing behind."""

import json
import signal
import socket
import subprocess
import sys
import threading

import httpx2

from tests.harness.simulator_client import GENERATIONS, get
from tests.simulator import KlingSimulator


def test_it_runs_as_a_process_of_its_own(http: httpx2.Client) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.simulator", "--port", "0", "--json-ready"]
    with subprocess.Popen([*command, "--history", "3"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        answer = http.get(
            ready["base_url"] + GENERATIONS, headers={"Authorization": f"Bearer {ready['api_key']}"}
        )
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.read())

    assert len(answer.json()["data"]) == 3
    assert last == {"requests": {"list": 1}, "complaints": []}
    assert process.returncode == 0


def test_stopping_leaves_no_thread_and_no_open_port(http: httpx2.Client) -> None:
    before = set(threading.enumerate())
    with KlingSimulator() as sim:
        get(sim, http, GENERATIONS)
        port = sim.port

    assert set(threading.enumerate()) - before == set()
    with socket.create_server(("127.0.0.1", port)):
        pass
