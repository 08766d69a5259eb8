"""Where a model comes from, and how it is made again."""
