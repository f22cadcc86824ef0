"""One module for each database that can hold the ledger."""
