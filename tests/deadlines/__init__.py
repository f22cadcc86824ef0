"""Months of outages on a fake clock: is every task in the bucket by day 30? `simulation.simulate` is the way in."""
