"""Images by what is most like them: leaks, mistakes, doubtful labels."""
