"""Exporting: a trained classifier as plain graphs in sealed bundles, each held against the model it came from."""
