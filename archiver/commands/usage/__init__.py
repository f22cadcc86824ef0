"""What an operator types: the arguments, options and help of each command, one file a command.

Nothing here takes long to import, so that `--help` answers within 0.2 s. What a command does stands in the module that
`terminal/group.py` names, and is imported when the command runs.
"""
