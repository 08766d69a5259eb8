"""Preprocess: from a stored image file to the pixels that a backbone sees."""
