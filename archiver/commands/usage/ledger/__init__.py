"""Usage of the commands about the ledger as a whole."""
