"""The databases that can hold the ledger, `sqlite` and `postgres`; `protocol` is what each must offer."""
