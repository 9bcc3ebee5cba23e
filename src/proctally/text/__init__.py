"""How things are said: escaping, units, terminal colours, Markdown, masked secrets. Imports `errors` alone."""
