"""What every command starts from (`invocation`), prints with (`printing`) and ends by (`exit_status`)."""
