"""The daemon as the container runs it: an ordinary user, no capabilities, every file system read-only but one."""

import os
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.harness.daemons import Site
from tests.harness.repository import ROOT
from tests.s3_servers import S3Server

USER = 10001
"""As in the Dockerfile."""
DATA = "/mnt"
"""Where the one folder that may be written to appears: there everywhere, and open to every user."""

SCRIPT = """
set -e
mount --make-rprivate /
mount --bind "$1" /mnt
while read -r _ _ _ _ point _; do
  case $point in /mnt | /proc | /proc/*) ;; *) mount -o remount,bind,ro "$point" 2>&- || true ;; esac
done < /proc/self/mountinfo
for folder in / /tmp /var/tmp /dev/shm "$PWD"; do
  if touch "$folder/written" 2>&-; then echo "$folder is not read-only"; exit 97; fi
done
shift
exec "$@"
"""


def read_only(data: pathlib.Path) -> list[str]:
    """What a command is to be prefixed with, so that it can write into `data` alone, which it sees as `DATA`."""
    if os.geteuid() != 0:
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", str(data)]
    os.chown(data, USER, USER)
    ordinary = [
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]
    return ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(data), "setpriv", *ordinary]


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(
        tmp_path,
        rclone_server,
        KLING_LEDGER_URL=f"sqlite:///{DATA}/ledger.db",
        KLING_SPOOL_DIR=f"{DATA}/spool",
    ) as made:
        yield made


def test_it_needs_no_more_than_one_folder_to_write_to_and_no_rights(
    site: Site, tmp_path: pathlib.Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    prefix = read_only(data)
    tried = subprocess.run([*prefix, "true"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no right to make file systems read-only here: {tried.stdout}{tried.stderr}")
    site.sim.switches.image_size = (1280, 1280)  # too large to stay in memory
    task_id = site.create_task(images=2)

    daemon = site.start(prefix=prefix)
    daemon.wait_ready()
    assert site.call_back(task_id) == 200
    site.wait_manifests(task_id)  # the ledger's folder has this name only in the daemon's own mounts
    facts = dict(re.findall(r"(?m)^(\w+):\s*(\w+)", pathlib.Path(f"/proc/{daemon.pid}/status").read_text()))

    assert daemon.stop() == 0
    site.assert_archived(task_id)
    assert {path.name for path in data.iterdir()} <= {
        "ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock", "spool"
    }  # fmt: skip
    if os.geteuid() == 0:
        assert (facts["Uid"], int(facts["CapEff"], 16), facts["NoNewPrivs"]) == (str(USER), 0, "1")
