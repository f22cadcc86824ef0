"""Usage of the commands about the bucket."""
