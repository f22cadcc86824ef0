"""The kind of file system that a folder is on.

A ledger in a container's own layer works until the first upgrade deletes it, without any error. On a network file
system, locks and fsync may not do what SQLite relies on. The daemon warns, and starts all the same: callbacks cannot
wait for a volume.
"""

import pathlib
import re

MOUNTS = pathlib.Path("/proc/self/mounts")
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""File systems that container engines make of an image and delete with the container."""


_NETWORKS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
_FUSE = re.compile(r"fuse(blk)?(\..*)?")
"""A file system that a program provides: sshfs, s3fs, rclone, and NTFS as well."""


def outlives_container(path: pathlib.Path, *, mounts: pathlib.Path = MOUNTS) -> bool:
    """Whether `path` lies on a mount of the container; True outside containers and when it cannot be found out."""
    return kind_of(path, mounts=mounts) not in _LAYERS


def network_kind_of(path: pathlib.Path, *, mounts: pathlib.Path = MOUNTS) -> str | None:
    """The kind of file system of `path` if another machine, or a program, provides it."""
    kind = kind_of(path, mounts=mounts)
    if kind is None or kind in _LAYERS:
        return None
    return kind if kind in _NETWORKS or _FUSE.fullmatch(kind) else None


def kind_of(path: pathlib.Path, *, mounts: pathlib.Path = MOUNTS) -> str | None:
    """The kind of file system of the folder of `path`; None when it cannot be found out. `mounts` is in the format of
    fstab(5)."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
        parents = [str(parent) for parent in path.resolve().parents]
    except (OSError, RuntimeError):  # no /proc; a loop of links
        return None
    kinds = {_unescaped(fields[1]): fields[2] for line in lines if len(fields := line.split(" ")) > 2}
    return next((kinds[parent] for parent in parents if parent in kinds), None)


def _unescaped(mount_point: str) -> str:
    r"""Resolve octal escapes: a space is written as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), mount_point)
