"""Runs the stages. `worker` runs those of one account; `composition.Engine` holds the workers and the upkeep.

`stages` wires them, a `…_loop` wakes each, `leased_work` ends every lease, `health` sets the gauges.
"""
