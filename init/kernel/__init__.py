"""What a kernel file is: its image, the formats and framings that hold one, the headers and sections of PE files.

Knows the machine and what is read from; neither entries nor how a kernel is started.
"""
