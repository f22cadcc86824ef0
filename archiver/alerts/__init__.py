"""Tells the operator's `KLING_ALERT_URL` of problems that last, and of their ends.

Three rules:

1. An alert delays nothing: its own thread and loop, 15 s a try, no answer read beyond its head.
2. A message is in the ledger before it is sent, under the id that it is sent with, and leaves the ledger after it was
   taken. A crash between the two sends it again with the same id.
3. A ledger that cannot be written is a problem to tell of: the loop then goes on from memory.
"""
