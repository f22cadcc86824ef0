"""`python -P swift_cluster.py prepare|serve ARGUMENTS…`: Swift's programs without their starts.

Each of them imports Swift and eventlet: 0.3 s of CPU for each step of a ring, 1 s for each server. Here one process
takes all steps, and the servers are forks of one that has imported them.

    prepare BUILDER PORT …   make the ring of each builder file: one disk of a server on that port
    serve ROLE=CONFIG …      run the servers; ends with the first that ends
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Sequence

SERVERS = {
    "account": "swift.account.server",
    "container": "swift.container.server",
    "object": "swift.obj.server",
    "proxy": "swift.proxy.server",
}
_PR_SET_PDEATHSIG = 1


def prepare(builders: Sequence[tuple[str, str]]) -> None:
    """A partition power small enough to place at once: a cluster of one disk."""
    ringbuilder = importlib.import_module("swift.cli.ringbuilder")
    for builder, port in builders:
        for step in (
            ["create", "6", "1", "0"],
            ["add", f"r1z1-127.0.0.1:{port}/disk", "1"],
            ["rebalance"],
        ):
            try:
                ringbuilder.main(["swift-ring-builder", builder, *step])
            except SystemExit as end:
                if end.code:
                    raise


def serve(configs: Sequence[tuple[str, str]]) -> None:
    """Does not return before a server has ended."""
    servers = {role: importlib.import_module(module) for role, module in SERVERS.items()}
    parent = os.getpid()
    for role, config in configs:
        if not os.fork():
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            sys.argv = [f"swift-{role}-server", config]
            servers[role].main()
    os.wait()


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(list(zip(sys.argv[2::2], sys.argv[3::2], strict=True)))
    else:
        serve([(role, config) for role, _, config in (given.partition("=") for given in sys.argv[2:])])
