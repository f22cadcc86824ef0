"""The revisions of the schema, in their order, and the properties that each declares.

A revision is a module in `versions/`. Two names may stand at its head, both False where they are missing:

    is_compatible   a program that does not know this revision may go on using the ledger: only columns with defaults,
                    tables and indexes are added, and nothing that an older program writes becomes wrong
    is_concurrent   it only builds indexes, `if_not_exists` and `postgresql_concurrently`. On PostgreSQL it then runs
                    outside of any transaction, and callbacks are written meanwhile
"""

import functools
import pathlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

_FOLDER = pathlib.Path(__file__).parent


def alembic_config() -> Config:
    """Alembic's configuration for the revisions. The caller puts a connection into its attributes."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def newest() -> str:
    """The revision that this program is made for."""
    return _all()[-1].revision


def is_known(revision: str) -> bool:
    """Whether this program knows the revision."""
    return revision in {script.revision for script in _all()}


def oldest_user(revision: str) -> str:
    """The revision that a program must know at least to use a ledger of `revision`."""
    scripts = list(_all())
    while scripts[-1].revision != revision:
        scripts.pop()
    while len(scripts) > 1 and getattr(scripts[-1].module, "is_compatible", False):
        scripts.pop()
    return scripts[-1].revision


def following(revision: str) -> str:
    """The one after `revision`, which is not the newest."""
    names = [script.revision for script in _all()]
    return names[names.index(revision) + 1]


def is_concurrent(revision: str) -> bool:
    """Whether PostgreSQL runs it outside of any transaction."""
    return any(script.revision == revision and _is_concurrent(script) for script in _all())


def last_before_concurrent(revision: str) -> str:
    """The last of the revisions from `revision` on that one transaction can run."""
    names = [script.revision for script in _all()]
    last = revision
    for script in _all()[names.index(revision) :]:
        if _is_concurrent(script):
            break
        last = script.revision
    return last


def run(connection: sa.Connection, revision: str) -> None:
    """Upgrade the ledger to `revision`."""
    command.upgrade(_on(connection), revision)


def stamp(connection: sa.Connection, revision: str) -> None:
    """Note in the ledger that it has `revision`."""
    command.stamp(_on(connection), revision)


def _on(connection: sa.Connection) -> Config:
    config = alembic_config()
    config.attributes["connection"] = connection
    return config


@functools.cache
def _all() -> tuple[Script, ...]:
    """The oldest first. Read once a process: Alembic imports every revision to find their order."""
    return tuple(reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions())))


def _is_concurrent(script: Script) -> bool:
    return bool(getattr(script.module, "is_concurrent", False))
