"""The Kling API: requests, and the meaning of answers. Start at `client`."""
