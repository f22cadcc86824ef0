"""From an id that a callback or a registration named to the API's word about it. `stage` is the way in."""
