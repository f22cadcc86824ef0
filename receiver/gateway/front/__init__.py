"""The gateway's side towards its clients: credentials, paths, bodies and answers."""
