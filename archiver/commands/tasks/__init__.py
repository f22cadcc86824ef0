"""Commands about single tasks: find them, see them, ask for them again."""
