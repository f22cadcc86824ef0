"""The Kling API: how it is asked, and what its answers mean. `client` is the way in."""
