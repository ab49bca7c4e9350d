"""The tool for a person at a desk: the command line, and what its commands do with a tree.

Knows the readers as anybody who builds on them does; no reader knows it.
"""
