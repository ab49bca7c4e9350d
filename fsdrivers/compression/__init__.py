"""One file for each compression: ``decompress(data, size) -> bytes``.

All of them return at most ``size`` bytes whatever the data claim, stop where the compressed stream ends (what
follows is padding up to the sector), and raise BadData on anything that is no such stream.  They may return
less than ``size`` when the stream holds less; what that means is up to the caller.

Knows errors and native alone.
"""
