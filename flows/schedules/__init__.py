"""When pipelines run by themselves, what Prefect shows of that, and what it asks people."""
