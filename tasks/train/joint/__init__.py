"""Several tasks at once, on layers that they share."""
