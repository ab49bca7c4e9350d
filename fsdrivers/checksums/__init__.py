"""One file for each checksum that a driver may meet: thin adapters for libraries, own code where there is none.

Knows native alone.
"""
