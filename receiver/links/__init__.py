"""`/files/…`: what a link leads to.

`endpoint` answers; `paths` reads the path, `finder` finds the file, `delivery` sends it or says where it is; `ranges`
reads what of it a client wants, `readers` says how many may read at once.
"""
