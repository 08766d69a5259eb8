"""Prefect's and MLflow's servers as a workspace's own processes."""
