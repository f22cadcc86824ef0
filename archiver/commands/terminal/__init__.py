"""What every command starts from (`invocation`), prints with (`printing`, `live`) and ends by (`exit_status`)."""
