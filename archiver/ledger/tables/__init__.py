"""The tables (`schema`), and functions for single rows of them that several parts of the ledger use."""
