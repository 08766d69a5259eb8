"""What runs after what: the flows, their configuration and the command line."""
