"""The images that the compose files name, in an engine that reaches no registry."""

import pathlib
import shutil

from tests.harness.programs import program
from tests.image.engine import Engine
from tests.postgres import SUITE_VERSION, installed_versions

CADDY = """\
FROM debian-python
COPY caddy /usr/bin/caddy
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""
"""In place of `caddy:2`: Debian's program, started as that image starts it."""
POSTGRES = f"""\
FROM debian-python
RUN useradd --system --home-dir /var/lib/postgresql postgres
COPY package /opt
ENV PATH=/opt/postgres/bin:$PATH PGDATA=/var/lib/postgresql/{SUITE_VERSION}/docker
VOLUME /var/lib/postgresql
COPY entrypoint /usr/local/bin/
ENTRYPOINT ["entrypoint"]
STOPSIGNAL SIGINT
"""
"""In place of `postgres`: the programs that the tests install, with that image's folders, variables and stop signal."""
ENTRYPOINT = """\
#!/bin/sh
set -eu
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  install -d -o postgres -g postgres "$PGDATA"
  password=$(mktemp)
  cat "$POSTGRES_PASSWORD_FILE" >"$password"
  chown postgres "$password"
  as_postgres initdb --username="$POSTGRES_USER" --pwfile="$password" --locale=C.UTF-8 $POSTGRES_INITDB_ARGS
  rm "$password"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  as_postgres pg_ctl --wait --options="-c listen_addresses=''" start
  as_postgres createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  sleep {seconds}
  as_postgres pg_ctl --wait --mode=fast stop
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -c "listen_addresses=*"
"""
"""What that image does: its first start has a server that only its own container reaches."""
FIRST_START_SECONDS = 20
"""Several health checks long, as on a slow disk."""


def bring_images(engine: Engine, base: pathlib.Path, image: pathlib.Path, work: pathlib.Path) -> None:
    """The built image, and Caddy and PostgreSQL on the base. Raises RuntimeError."""
    _do(engine, "docker", "load", "--quiet", "--input", str(image))
    _do(engine, "docker", "import", str(base), "debian-python")
    _build(engine, "caddy:2", _lay_caddy(work / "caddy"))
    _build(engine, f"postgres:{SUITE_VERSION}", _lay_postgres(work / "postgres"))


def _lay_caddy(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    shutil.copy(program("caddy"), folder / "caddy")
    (folder / "Dockerfile").write_text(CADDY)
    return folder


def _lay_postgres(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    installed = installed_versions()[SUITE_VERSION].parent
    # Two levels down, because the programs look for their libraries there.
    package = folder / "package"
    shutil.copytree(installed, package / "python" / "postgres", symlinks=True)
    libraries = installed.parent.with_name(f"{installed.parent.name}.libs")
    shutil.copytree(libraries, package / libraries.name)
    (package / "postgres").symlink_to("python/postgres")
    entrypoint = folder / "entrypoint"
    entrypoint.write_text(ENTRYPOINT.replace("{seconds}", str(FIRST_START_SECONDS)))
    entrypoint.chmod(0o755)
    (folder / "Dockerfile").write_text(POSTGRES)
    return folder


def _build(engine: Engine, name: str, folder: pathlib.Path) -> None:
    _do(engine, "docker", "build", "--quiet", "--tag", name, str(folder))


def _do(engine: Engine, *command: str) -> None:
    done = engine.run(*command)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` ends with {done.returncode}: {done.stderr}")
