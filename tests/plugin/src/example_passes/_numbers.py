"""A helper that two passes could share."""

LARGEST_FACTOR = 16.0
