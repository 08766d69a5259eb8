"""What is known of a run while it works, and after."""
