"""What a kernel file is: its image, the formats and framings that hold one, PE, archives behind an initrd.

Knows consoles and the machine; neither entries nor how a kernel is started.
"""
