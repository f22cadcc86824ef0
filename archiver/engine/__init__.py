"""Runs the stages: threads, loops, slots, upkeep, and what happens after a failure. `worker` is the way in."""
