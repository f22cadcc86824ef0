"""Finds by list what no callback named. `stage` is the way in."""
