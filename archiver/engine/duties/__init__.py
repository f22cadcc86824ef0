"""What this process does alone among many: which accounts it asks for, and whether it does the upkeep."""
