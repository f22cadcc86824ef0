"""What a file is, by its own bytes. `identify` is the entry."""
