"""`/files/…`: the files that links lead to.

`endpoint` answers; `paths` reads the path, `finder` finds the file, `delivery` sends it or redirects to it; `ranges`
reads which part of it a client wants, `readers` limits how many clients may read at once.
"""
