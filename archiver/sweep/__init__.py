"""Finds by list what no callback named.

`stage` is the way in, `loop` reads the pages, `lists` knows when a sweep may stop. `engine.sweep_loop` is the schedule.
"""
