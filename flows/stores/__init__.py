"""MLflow's store: whether it answers, who shares it, what is wrong with it, where it lies."""
