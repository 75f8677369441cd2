"""Rules about the tree itself, each a function of a folder that returns what breaks it.

Each rule is tested twice: on this repository, and on a small broken tree that it must catch.
`python -m tests.tidy` prints every violation and the functions that grow long.
"""
