"""`make bench`: every figure is a ratio to a baseline measured in the same run, because machines are noisy.

Three figures, one module each: `door` (callbacks made durable), `transfers` (images archived), `memory` (64 bodies of
50 MB at once). Nothing is asserted: each line prints the figure and its target.
"""
