"""The loop of the forward stage."""
