"""The commands of `kling-archiver`, one file each. They print what the engine says and decide nothing themselves.

`invocation` is what every command starts from, `endings` how every one ends, `printing` how anything is shown.
"""
