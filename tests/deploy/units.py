"""The shipped units, as tests read them."""

import dataclasses
import pathlib

from archiver.config.roles import ProcessRole
from tests.harness.deployment import DEPLOY

DROP_INS = ("api-key.conf", "instance-role.conf", "links.conf")


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit of one role, with the drop-ins that it has."""

    path: pathlib.Path
    role: ProcessRole
    drop_ins: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, str]]:
        """(key, value) in their order."""
        paths = [self.path, *(DEPLOY / "systemd" / name for name in self.drop_ins)]
        lines = [line for path in paths for line in path.read_text().splitlines() if line[:1].isalpha()]
        return [(key, value) for key, _, value in (line.partition("=") for line in lines)]

    def values(self, key: str) -> list[str]:
        return [value for name, value in self.pairs() if name == key]

    def environment(self, *, credentials: pathlib.Path) -> dict[str, str]:
        """What systemd sets, of an instance 8081."""
        unset = {name for value in self.values("UnsetEnvironment") for name in value.split()}
        replaced = (
            value.replace("%d", str(credentials)).replace("%S", "/var/lib").replace("%i", "8081")
            for value in self.values("Environment")
        )
        return dict(value.split("=", 1) for value in replaced if value.partition("=")[0] not in unset)

    def credentials(self) -> set[str]:
        return {value.partition(":")[0] for value in self.values("LoadCredential")}


UNITS = (
    Unit(DEPLOY / "kling-receiver.service", ProcessRole.WHOLE),
    Unit(DEPLOY / "systemd/kling-door@.service", ProcessRole.DOOR),
    Unit(DEPLOY / "systemd/kling-gateway@.service", ProcessRole.GATEWAY),
    Unit(DEPLOY / "systemd/kling-work@.service", ProcessRole.WORK),
)
