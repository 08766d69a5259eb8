"""Training within a budget of time: what to do next, a trial of it, and notes of what has been done."""
