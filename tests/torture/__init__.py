"""`make torture`: the promises of the service, tried many times and counted.

Each part is a function from `Options` to figures (see `parts`), and each figure has bounds. A figure out of its bounds,
or a part that breaks, makes the exit status 1. A short version of each part runs within `make test`.
"""
