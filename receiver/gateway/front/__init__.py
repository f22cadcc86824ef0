"""The gateway's side towards its clients: who asks, for what, and what they are told."""
