"""Lines and keys, on every console at once: terminals, decoding of keys, the line editor, signs of progress.

Knows the machine; neither what is asked or told there nor any setting.
"""
