"""Commands about the bucket: whether it has what it should have, and its sums."""
