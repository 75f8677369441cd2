"""Tasks: work that is posted, leased, ended, and waits for other work."""
