"""The number of examples of a costly property."""

from hypothesis import settings

FULL = 100  # examples of a property in the full profile, if it sets no number


def examples(full: int) -> int:
    """Return `full` in the full profile, and as much less of it as the active profile has fewer examples."""
    return max(3, full * settings().max_examples // FULL)
