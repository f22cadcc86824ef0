"""Creates of clients: reading, changing, sending and registering them. Start at `handler`."""
