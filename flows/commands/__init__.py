"""The `headstart` command, a file for each group of its words."""
