"""Domain adaptation: labelled images of some domains and unlabelled ones of another make a head for the other."""
