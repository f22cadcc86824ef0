"""The callback endpoint: read, check and commit a notification, then answer 200. Start at `endpoint`."""
