"""Many processes on one PostgreSQL ledger under attack: `siege` is the part, `site` what is attacked."""
