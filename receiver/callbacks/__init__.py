"""The callback endpoint: a notification in, committed, answered 200. `endpoint` is the way in."""
