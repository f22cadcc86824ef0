"""What several tests stand on. Nothing here is a test."""
