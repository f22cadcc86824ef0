"""What operators look into, and what lies in the bucket: it reads what the stages have left, and asks them for work."""
