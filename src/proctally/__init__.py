"""proctally: an exact, lightweight resource tracker for Linux.

Importing does nothing; the public names are loaded when they are first used.
"""

__version__ = "0.1.0"
