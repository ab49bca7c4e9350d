"""The tool for a person at a desk: the command line, and what its commands print, pack and mount.

Knows the readers as anybody who builds on them does; no reader knows it, nor does the boot.
"""
