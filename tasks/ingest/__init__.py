"""Ingest: from wherever labelled images lie to one versioned dataset."""
