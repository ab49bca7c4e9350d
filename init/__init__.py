"""PID 1: finds the operating system on whatever disks are there, and hands over to it."""

VERSION = "0.1.0"
