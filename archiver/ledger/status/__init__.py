"""The whole ledger at a glance, what of it an operator has seen, and which alerts have been sent."""
