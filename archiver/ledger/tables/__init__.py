"""The tables (`schema`), and functions for their rows that several parts of the ledger use."""
