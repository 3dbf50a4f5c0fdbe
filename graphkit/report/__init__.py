"""What a command found, as one tree of records, and the ways to show it."""
