"""Turns settings into the objects that both entry points run.

    build       settings → `Engine`: every loop of the process, in its role
    running     `Engine`: started, woken, stopped
    forwarding  what tells applications
    outside     bucket, spool, alerts
    clients     the API client of an account
    accounts    which accounts there are, and what problems of theirs are measured by

Each account has its own worker, client, limiter, sweep and threads. Accounts share ledger, bucket, spool and transfer
slots. Nothing here opens a connection: a missing API, bucket or network is found by the stages, which then hold. It is
no reason to be down.
"""
