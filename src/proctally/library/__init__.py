"""The public tracker classes, and the hosts they run in: IPython, pytest."""
