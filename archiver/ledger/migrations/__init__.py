"""The schema's history, one revision a file; `upgrade` brings a ledger to the newest."""
