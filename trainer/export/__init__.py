"""What a run leaves for others: its adapter with card and specification, and merged weights."""
