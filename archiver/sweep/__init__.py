"""Finds by list the tasks that no callback named.

Start at `stage`. `loop` reads the pages, `lists` knows when a sweep may stop. `engine.sweep_loop` is the schedule.
`unswept` looks once a day at the lists that no sweep reads.
"""
