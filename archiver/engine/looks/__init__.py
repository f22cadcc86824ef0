"""How the daemon notices that something is down before a task is late: by failures of its work, and by looks.

`outage` counts failures of API and store; three within a minute are a hold. `look` says what a look does, `loop` when,
and which holds it sets and ends. `machine` watches disks, file systems and clocks; what it finds are warnings.
"""
