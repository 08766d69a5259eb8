"""Tables of every kind that people keep lists in, read row by row."""
