"""Commands about the bucket: whether its contents are right (`verify`), and their checksums (`sums`)."""
