"""What operators look into: what lies in the bucket and what the stages have left, and whether this machine can work
(`doctor`). It asks the stages for work."""
