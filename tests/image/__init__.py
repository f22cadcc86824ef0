"""`make image`: builds the image for real with buildah, starts it as `docker run --read-only` would, and looks at it.

Not a part of the suite: with a base made of Debian's packages it takes two minutes of processor time, and nine minutes
beside other work. No container engine is needed: buildah runs the Dockerfile in a chroot, and `container` makes of
namespaces, overlayfs and a bind mount what an engine would.

Where Docker's engine, Compose and Caddy are installed (Debian's docker.io, docker-compose and caddy), `composed` starts
deploy/compose.yaml with the image. Caddy's image alone is ours, made of Debian's packages: `caddy:2` comes from a
registry.

Not tried: compose.postgres.yaml, hadolint, and what a scanner finds in the base.
"""
