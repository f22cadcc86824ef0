"""The tables (`schema`), and the functions that read and write single rows of them for every part."""
