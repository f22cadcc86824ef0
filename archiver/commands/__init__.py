"""The commands of `kling-archiver`, in folders by subject. They print what the engine decides.

`terminal` has what all of them share, `usage` their arguments and help texts in the same folders.
"""
