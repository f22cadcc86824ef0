"""Which threads of the process still come round: `pulse` for the code that they run, `watch` for those who look."""
