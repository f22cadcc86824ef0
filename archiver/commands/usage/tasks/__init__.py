"""Usage of the commands about single tasks."""
