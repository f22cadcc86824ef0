"""Creates of the gateway's clients: what is known of each before it is sent, and how each ends."""
