"""Peak memory of the real daemon while it transfers 64 bodies of 50 MB at once, through the spool.

The API is unreachable; the ledger is filled beforehand, so that all 64 are due when the daemon starts.
"""

import os
import time
from pathlib import Path

from archiver.ledger import Ledger, unix_ms
from archiver.model import Asset, DiscoveredBy, Role, State, Status, Task
from tests.bench.processes import daemon_environment, free_port, python
from tests.s3_servers.rclone import RcloneServer
from tests.s3_servers.server import running

BODIES = 64
BODY_BYTES = 50_000_000


def measure(folder: Path) -> list[str]:
    """Lines of figures."""
    port, cdn_port = free_port(), free_port()
    log = folder / "memory.log"
    with (
        running(RcloneServer) as server,
        python(["-m", "tests.bench.cdn", str(cdn_port), str(BODY_BYTES)], port=cdn_port, log=log),
    ):
        environ = daemon_environment(folder, port=port) | server.environment(server.create_bucket())
        environ |= {
            "KLING_ASSET_HOSTS": f"http://127.0.0.1:{cdn_port}",
            "KLING_TRANSFER_CONCURRENCY": str(BODIES),
            "KLING_SPOOL_DIR": str(folder),
        }
        ledger = Ledger.open(environ["KLING_LEDGER_URL"], daemon=False, create=True)
        tasks = [_task(number, f"http://127.0.0.1:{cdn_port}/image.png") for number in range(BODIES)]
        ledger.records.record(tasks, account="default", discovered_by=DiscoveredBy.CALLBACK, rand=0.5)
        with python(["-m", "receiver"], port=port, log=log, environ=environ) as daemon:
            idle = resident(daemon.pid, "VmRSS")
            deadline = time.monotonic() + 600
            while ledger.views.status().states[State.ARCHIVED] < BODIES and time.monotonic() < deadline:
                time.sleep(0.2)
            archived = ledger.views.status().states[State.ARCHIVED]
            peak = resident(daemon.pid, "VmHWM")
        ledger.close()
    figures = f"{peak:8.0f} MB  idle     {idle:8.0f} MB  ratio {peak / idle:.2f}  (≤ 200 MB)"
    return [f"peak RSS, {BODIES} bodies of 50 MB {figures}  archived {archived} of {BODIES}"]


def resident(pid: int, name: str) -> float:
    """Resident memory of a process in MB (Linux)."""
    if not os.path.exists(f"/proc/{pid}/status"):  # noqa: PTH110 -- procfs, not a path of ours
        return float("nan")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1000
    return float("nan")


def _task(number: int, url: str) -> Task:
    now = unix_ms()
    return Task(
        task_id=f"{number:018d}",
        family="images/generations",
        status=Status.SUCCEEDED,
        message="",
        created_at=now,
        updated_at=now,
        external_task_id=None,
        assets=(Asset("0", url, Role.IMAGE, 0, watermarked=False),),
        document={"task_id": f"{number:018d}"},
    )
