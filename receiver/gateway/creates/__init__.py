"""Creates of clients: how they are read, changed, sent, registered. Entered at `handler`."""
