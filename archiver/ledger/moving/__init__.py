"""`move-ledger`: a ledger from one database to another, whole or not at all."""
