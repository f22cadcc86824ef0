"""Brings the files of a succeeded task into the bucket, and then its manifest. Start at `stage`."""
