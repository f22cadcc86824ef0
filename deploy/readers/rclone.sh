#!/bin/sh
# Reads the bucket with rclone: a month of manifests for a report, or a copy of everything that is checked.
#
#    sh rclone.sh manifests remote:my-results images/generations/2026/11 november
#    sh rclone.sh copy remote:my-results copy-of-the-bucket SUMS
#
# SUMS is what `kling-archiver sums` prints.
set -eu
case $1 in
manifests)
    # Only the manifests: a few KB a task. Without amendments, which repeat the task and would count it twice.
    rclone copy --include "manifest.json" "$2/$3" "$4/$3"
    ;;
copy)
    # Nothing in the bucket ever changes, so what is there is never looked at again.
    rclone copy --ignore-existing "$2" "$3"
    rclone checksum sha256 "$4" "$3" --one-way
    ;;
esac
