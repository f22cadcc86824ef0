"""The engine, from the top floor down. A room imports only rooms below it; `tests/project/test_imports.py` holds that.

    commands      `kling-archiver`: what an operator types, one file a command
    composition   settings → objects, for both entry points
    config        the settings; only the two rooms above read them
    engine        runs the stages: threads, loops, slots, host watch, failure handling, upkeep every 5 s, health
    archive       a succeeded task → its files in the bucket, then its manifest
    sweep         task lists → the tasks that no callback named
    verify        a task id from a callback or a registration → the API's word about it
    create        tasks that we create, and tasks that another program says it created
    fetch         a result URL → a checked file in the spool; which addresses are refused
    record        the API's word → the ledger, counted and logged: the one way in
    leases        keeps the leases of this process alive
    ledger        every task and what it waits for, in SQL: claims, holds, deadlines; databases/ has the drivers
    kling         the API client: questions, answers, lists, rate limit; API.md has the facts
    store, media  the S3 bucket · which bytes are a whole picture, film or sound
    families, metrics, log, redaction   the task families · Prometheus · one event a line · secrets taken out of it
    failures      every way the outside fails: retry, hold or bury, and the sentence that tells an operator what to do
    model         what a task is: states, transitions, assets, bucket keys

A callback travels receiver → ledger → verify → record → ledger → archive → fetch → store. A stage's package has the
stage's name in metrics and logs, and is entered at `stage.py`.
"""
