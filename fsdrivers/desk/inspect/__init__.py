"""`fsdrivers inspect`: on-disk structures in words, whether they are whole or not.

The one place that knows the library construct: it is derived from the drivers' declarations (layout.py), for people
here and for tests.  What numbers mean to a person (enumerations, flags, times) is told here and not in the drivers,
which travel in the boot program.
"""
