"""`make bench`: every figure is a ratio to a baseline measured in the same run, because machines are noisy.

Three figures, one module each: `door` (callbacks made durable), `transfers` (images archived), `memory` (64 bodies of
50 MB at once). Nothing here asserts a time; it prints what it saw and what the figure should reach.
"""
