"""How the daemon learns that something is down before a task is late: by what its work meets, and by looks of its own.

`outage` counts failures of API and store; three within a minute are a hold. `look` says what a look does, `loop` when,
and which holds it sets and ends. `machine` watches disks, file systems and clocks, which are warnings.
"""
