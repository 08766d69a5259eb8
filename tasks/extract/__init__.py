"""Extract: a frozen backbone's view of every image, computed once and kept."""
