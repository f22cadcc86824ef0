"""What bytes are: a whole picture, film or sound, or none. `identify` is the way in."""
