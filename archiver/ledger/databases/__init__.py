"""The databases that can hold the ledger: `protocol` is what each must offer, `sqlite` is the one there is."""
