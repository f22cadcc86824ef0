"""`make demo` and `kling-archiver demo`: the main job end to end, on the screen, and checked from outside.

Needs no root and no settings. Lies in the wheel too, with all that it imports (pyproject.toml). Three rules:

1. The daemon is the real one in a process of its own, the S3 server is a real one from a wheel, and only Kling is
   simulated. Nothing here reaches into the daemon: what it did is read from the bucket, its log and its metrics.
2. "All bytes right" is said only after every object was fetched back through S3 and compared with what the simulated
   account made. Each problem is one sentence, and makes the exit status 1.
3. Everything lies in one folder, and no process outlives the demo, not even after kill -9 (see `leash`).
"""
