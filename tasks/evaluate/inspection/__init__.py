"""A candidate looked at through its network."""
