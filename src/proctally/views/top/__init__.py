"""`proctally top`: what runs, live: a process tree that is sampled here, or a record that is still written."""
