"""From an id that a callback or a registration named to the API's answer about it. Start at `stage`."""
