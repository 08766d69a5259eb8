"""Register: from a candidate to a version that people can serve, promote and roll back."""
