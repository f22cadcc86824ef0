"""Turns settings into the objects that both entry points run.

    build       settings → `Engine`: every loop of the process, in its role
    running     `Engine`: started, woken, stopped
    forwarding  the loop that sends forwards to applications
    outside     bucket, spool, alerts
    clients     the API client of an account
    accounts    the accounts of settings and ledger; what `problems` expects of them

Each account has its own worker, client, limiter, sweep and threads. Accounts share ledger, bucket, spool and transfer
slots. Nothing here opens a connection. The stages find out that the API, the bucket or the network is missing, and
hold; the process starts all the same.
"""
