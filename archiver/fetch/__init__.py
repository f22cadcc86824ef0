"""From a URL of the API to a checked file in the spool. `fetcher` is the entry."""
