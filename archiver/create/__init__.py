"""Tasks that we create, and tasks that others say they have created. `submitter` and `registration` are the ways in."""
