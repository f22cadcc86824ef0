"""Files of real encoders, and the verdict on each, whole and damaged.

`encoded/` is what `make.sh` makes. `broken/` and `whole/` hold files that were once judged wrongly. `table.tsv` says of
every file what it is, and of each of its twenty damages the verdict here and that of a real decoder.
`python -m tests.media_corpus` writes it anew; that needs the decoders, the tests do not.
"""
