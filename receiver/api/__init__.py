"""The JSON API for programs that have the admin token."""
