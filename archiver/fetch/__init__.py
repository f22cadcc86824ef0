"""From a URL of the API to a checked file in the spool. Start at `fetcher`."""
