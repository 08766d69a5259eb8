"""Where a task is a number: what is written, drawn and found of it."""
