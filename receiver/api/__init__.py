"""The JSON API for programs that hold the admin token."""
