"""Fuzzing of every place that reads bytes from outside.

`targets` states what must hold for all bytes. There are two ways to find a counterexample. atheris follows the coverage
of the code, and keeps inputs that reach a new line. `mutation` only changes good samples at random, and runs wherever
Python does. (atheris has wheels only for CPython 3.11 to 3.14 on Linux x86-64, 131 MB of them, so it has a lock file of
its own: `make fuzz`.)
"""
