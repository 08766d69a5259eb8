"""What `headstart`'s words do, but for those that cli.py holds itself."""
