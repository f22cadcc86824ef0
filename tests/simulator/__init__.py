"""A Kling account on loopback, as strict as the real one is documented to be. Imports nothing of ours.

Two rules:

1. It is a real HTTP server, so whatever talks to it (the daemon in this process, a container, curl) goes
   through real sockets; a test edits the account behind it (`sim.create_task`, `sim.succeed`) while it serves.
2. It is a fake that complains: a request that the real account would never have expected (an unknown path
   or parameter, credentials sent to the CDN, an altered signed URL, a callback not answered with 200) lands in
   `sim.complaints`, and a test ends with ``assert sim.complaints == []``.

Where the API is undocumented, the plausible behaviours are switches (`switches.py`).
"""

from tests.simulator import faults
from tests.simulator.callbacks import CallbackUndelivered, Delivery
from tests.simulator.faults import Fault
from tests.simulator.request_log import LoggedRequest
from tests.simulator.server import KlingSimulator
from tests.simulator.switches import Switches

__all__ = [
    "CallbackUndelivered",
    "Delivery",
    "Fault",
    "KlingSimulator",
    "LoggedRequest",
    "Switches",
    "faults",
]
