"""Months of outages on a fake clock: is every task in the bucket by day 30? Start at `simulation.simulate`."""
