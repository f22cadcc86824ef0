"""The last stage: tells applications how tasks ended, once the files are safe. Start at `stage`."""
