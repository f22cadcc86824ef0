"""`make image`: builds the image for real with buildah, starts it as `docker run --read-only` would, and looks at it.

Not a part of the suite: with a base made of Debian's packages it takes two minutes of processor time, and nine minutes
beside other work. No container engine is needed: buildah runs the Dockerfile in a chroot, and `container` makes of
namespaces, overlayfs and a bind mount what an engine would.

Where Docker's engine, Compose and Caddy are installed (Debian's docker.io, docker-compose and caddy), `composed` and
`composed_postgres` start the compose files of deploy/ with the image. Caddy's and PostgreSQL's images are ours, made of
Debian's packages and of the PostgreSQL of the development dependencies: `caddy:2` and `postgres:18` come from a
registry.

Measured beside other work: their images 15 to 90 s, compose.yaml 62 s, compose.postgres.yaml 165 s, of which 20 s are a
first start of PostgreSQL that is slow on purpose.

Not tried: hadolint, and what a scanner finds in the base.
"""
