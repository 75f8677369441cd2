"""Packed search data and its arithmetic, for any engine: no SQL, no file, only arrays.

A segment is a run of rows, packed once and never changed. What is fresh lies beside it as a tail.
These modules import numpy, so an engine imports them at its first search and not before.
"""
