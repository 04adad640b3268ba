"""A small HTTP endpoint for text classifiers: bundles on disk, engines in memory, predictions over the wire."""
