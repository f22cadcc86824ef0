"""The engine, from the top floor down. A room imports only rooms below it; `tests/project/test_imports.py` holds that.

    commands      `kling-archiver`: what an operator types, one file a command
    composition   settings → `Engine`, for both entry points
    config        the settings; the entry points, commands and composition read them
    audit         what operators look into: the bucket against manifests and ledger; `doctor`
    engine        runs the stages: loops, slots, host watch, failure handling, looks, upkeep every 5 s, gauges
    archive       a succeeded task → its files in the bucket, then its manifest; second looks at what lies there
    sweep         task lists → the tasks that no callback named
    forward       tells applications of tasks that are archived, amended, failed or lost
    alerts        tells KLING_ALERT_URL of problems that last, and of their ends
    webhooks      posts one signed message to an application, within bounds
    verify        a task id from a callback or a registration → the API's answer about it
    create        tasks that we create, and tasks that another program says it created
    fetch         a result URL → a checked file in the spool; which addresses are refused
    record        an answer of the API → the ledger, counted and logged: no other way makes a task known
    problems      one snapshot of the ledger → what an operator must know of, and what to do about it
    leases        renews the leases of this process (ledger claims them; engine/leased_work ends them)
    ledger        every task and what it waits for, in SQL: claims, outcomes (due again when), holds; databases/
    kling         the API client: questions, answers, rate limit; lists: order, repeats, end; API.md has the facts
    store         the S3 bucket
    media         which bytes are a whole picture, film or sound
    pulses        which threads still come round; those that hang
    families      which task families there are, what they make, how they are read
    metrics       what /metrics counts
    log           one event a line
    failures      every way the outside fails: retry (and when), hold or bury; what the operator has to do
    redaction     takes secrets out of the log
    phrases       numbers and times as people read them
    times         times as people write them
    loglines      one event of the log as lines for a person
    lookups       look-ups of names that end after 5 s
    clock         seconds that pass, also while the machine is suspended
    ending        how a process ends that still has threads
    model         what a task is: states, transitions, assets, bucket keys
    version       of this program

The stages are verify, archive, sweep and forward, also in metrics and logs; each is entered at its `stage.py`. The
life of a callback: receiver → ledger (committed); the engine wakes verify → record → ledger; then archive → fetch →
store; then forward → webhooks → your application.
"""
