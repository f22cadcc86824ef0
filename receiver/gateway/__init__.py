"""The gateway: Kling's own paths, answered by Kling through us, and by the archive where Kling no longer can."""
