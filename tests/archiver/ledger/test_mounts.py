"""A ledger that will not outlive its container is told from one that will."""

import pathlib

import pytest

from archiver.ledger.databases.mounts import network_kind_of, outlives_container

CONTAINER = """\
overlay / overlay rw,relatime,lowerdir=/a:/b 0 0
proc /proc proc rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sda1 /data ext4 rw 0 0
/dev/sda1 /my\\040data ext4 rw 0 0
"""
MACHINE = "/dev/sda1 / ext4 rw 0 0\noverlay /var/lib/docker/overlay2/x/merged overlay rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "path", "outlives"),
    [
        (CONTAINER, "/data/kling-ledger.db", True),
        (CONTAINER, "/data/deeper/kling-ledger.db", True),
        (CONTAINER, "/my data/kling-ledger.db", True),
        (CONTAINER, "/database/kling-ledger.db", False),
        (CONTAINER, "/kling-ledger.db", False),
        (CONTAINER.replace("/data ", "/other "), "/data/kling-ledger.db", False),
        (MACHINE, "/data/kling-ledger.db", True),
        ("", "/data/kling-ledger.db", True),
        ("nonsense\n\n", "/data/kling-ledger.db", True),
    ],
)
def test_a_file_in_the_containers_own_layer_vanishes_with_the_container(
    tmp_path: pathlib.Path, mounts: str, path: str, *, outlives: bool
) -> None:
    table = tmp_path / "mounts"
    table.write_text(mounts)

    assert outlives_container(pathlib.Path(path), mounts=table) is outlives


def test_an_unknown_file_system_causes_no_warning(tmp_path: pathlib.Path) -> None:
    assert outlives_container(tmp_path / "ledger.db", mounts=tmp_path / "missing")


@pytest.mark.parametrize(
    ("kind", "is_network"),
    [
        *(
            (kind, True)
            for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "fuseblk", "fuse.sshfs")
        ),
        *(
            (kind, False)
            for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.fuse-overlayfs")
        ),
    ],
)
def test_a_file_system_that_another_machine_or_a_program_provides_is_told_from_a_disk(
    tmp_path: pathlib.Path, kind: str, *, is_network: bool
) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/share /data {kind} rw 0 0\n")

    found = network_kind_of(pathlib.Path("/data/ledger/kling-ledger.db"), mounts=table)

    assert found == (kind if is_network else None)
    assert network_kind_of(pathlib.Path("/other/kling-ledger.db"), mounts=table) is None
