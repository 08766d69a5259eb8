"""MLflow's store, and databases: whether they answer, who shares them, what is wrong with them."""
