"""`python -m proctally`: the same as the installed command."""

from proctally.cli.main import script

if __name__ == "__main__":
    script()
