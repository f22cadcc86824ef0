"""What every command starts from, prints with and ends by."""
