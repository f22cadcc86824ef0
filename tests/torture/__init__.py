"""`make torture`: what the service promises, tried for as long as it takes, and counted.

Each part is a function from `Options` to figures (see `parts`), and each figure says what it must be. A figure out of
its bounds, or a part that breaks, makes the exit status 1. A short version of each part runs within `make test`.
"""
