"""Whether what lies in a folder outlives the container that the program runs in.

A ledger in a container's own layer works perfectly until the first upgrade, which deletes it. No error tells of
that, so the daemon does when it starts; it starts all the same, because callbacks cannot wait for a volume.
"""

import pathlib
import re

MOUNTS = pathlib.Path("/proc/self/mounts")
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""Filesystems that container engines make of an image and throw away with the container."""


def outlives_container(path: pathlib.Path, *, mounts: pathlib.Path = MOUNTS) -> bool:
    """Whether `path` lies on something that was mounted into the container; True where there is no container, or
    nobody can tell. `mounts` is in the format of fstab(5)."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
        parents = [str(one) for one in path.resolve().parents]
    except (OSError, RuntimeError):  # no /proc; a loop of links
        return True
    kinds = {_unescaped(fields[1]): fields[2] for line in lines if len(fields := line.split(" ")) > 2}
    nearest = next((one for one in parents if one in kinds), None)
    return nearest is None or kinds[nearest] not in _LAYERS


def _unescaped(written: str) -> str:
    r"""A mount point with a space in it is written with `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), written)
