"""When pipelines run by themselves."""
