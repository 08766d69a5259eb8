"""The pipeline's work, one package per stage in the order data flows.

``ingest → preprocess → extract → train → evaluate → register``. A stage imports only stages before it and
the ground floor (the modules that lie beside this file). Everything here but a stage's ``door`` runs where
Prefect, MLflow and DVC are not installed.
"""
