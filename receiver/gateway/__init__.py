"""The gateway: it serves Kling's own paths. Kling answers through it; the archive answers where Kling no longer can."""
