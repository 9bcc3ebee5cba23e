"""A record as something to look at: one HTML file, text for a terminal, Markdown for a CI job, JSON for a script."""
