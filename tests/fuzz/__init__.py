"""Bytes that nobody would think of, against every place where strangers' bytes are read.

`targets` says what must hold whatever the bytes are. Two ways to find bytes for which it does not: atheris, which
follows the coverage of the code and keeps what reaches a new line of it, and `mutation`, which only changes good
samples at random and runs wherever Python does (atheris has wheels for CPython 3.11 to 3.14 on Linux x86-64 only, and
131 MB of them, so it has a lock of its own: `make fuzz`).
"""
