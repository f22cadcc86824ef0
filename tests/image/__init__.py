"""`make image`: builds the image for real with buildah, starts it as `docker run --read-only` would, and looks at it.

Not a part of the suite: with a base made of Debian's packages it takes a minute of CPU and three minutes beside other
work. No container engine is needed: buildah runs the Dockerfile in a chroot, and `container` makes of namespaces,
overlayfs and a bind mount what an engine would. hadolint, and what a scanner finds in the base, are not tried.
"""
