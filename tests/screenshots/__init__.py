"""Takes the pictures of the console that receiver/README.md shows: `python -m tests.screenshots`."""
