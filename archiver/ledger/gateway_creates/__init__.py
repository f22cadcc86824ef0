"""Creates of the gateway's clients: what is known of each before it is sent, and what becomes of it."""
