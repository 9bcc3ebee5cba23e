"""Who belongs to a process tree, how much it used, and which source says so."""
