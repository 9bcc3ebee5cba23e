"""What other programs receive while a run goes on; a process of its own."""
