"""The gateway's side towards its clients: who asks, for what, when it begins, and what they are told."""
