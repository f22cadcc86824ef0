"""What only one of many processes does: querying the API for an account, and the upkeep."""
