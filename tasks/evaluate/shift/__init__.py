"""Images of another kind."""
