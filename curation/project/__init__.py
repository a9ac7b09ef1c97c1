"""Projects: code as repositories and not as files, in the order in which files need each other.

`imports.py` says what a file imports, `resolve.py` which files of the project that is, by the rules
of each language in `rules_*.py`, `order.py` how the files then stand, `files.py` which files count.
"""
