"""Sends an alert to the operator's `KLING_ALERT_URL` when a problem lasts, and another when it ends.

Three rules:

1. An alert delays nothing. It has its own thread and loop, 15 s for each try, and reads only the head of the answer.
2. A message is in the ledger, with its id, before it is sent. It leaves the ledger after the receiver has accepted it.
   A crash between the two sends it again with the same id.
3. A ledger that cannot be written is a problem too. The loop then sends alerts from memory.
"""
