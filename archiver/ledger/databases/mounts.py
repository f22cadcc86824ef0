"""Whether a folder outlives the container that the program runs in.

A ledger in a container's own layer works until the first upgrade deletes it, without any error. The daemon warns at its
start, and starts all the same: callbacks cannot wait for a volume.
"""

import pathlib
import re

MOUNTS = pathlib.Path("/proc/self/mounts")
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""File systems that container engines make of an image and delete with the container."""


def outlives_container(path: pathlib.Path, *, mounts: pathlib.Path = MOUNTS) -> bool:
    """Whether `path` lies on a mount of the container; True outside containers and when it cannot be found out.
    `mounts` is in the format of fstab(5)."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
        parents = [str(parent) for parent in path.resolve().parents]
    except (OSError, RuntimeError):  # no /proc; a loop of links
        return True
    kinds = {_unescaped(fields[1]): fields[2] for line in lines if len(fields := line.split(" ")) > 2}
    nearest = next((parent for parent in parents if parent in kinds), None)
    return nearest is None or kinds[nearest] not in _LAYERS


def _unescaped(mount_point: str) -> str:
    r"""Resolve octal escapes: a space is written as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), mount_point)
