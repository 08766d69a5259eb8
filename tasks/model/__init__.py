"""Model: the packaged classifier, used by evaluation, registration, batch prediction and serving alike."""
