"""Fine-tune, serve, load-test and price a text classifier; see README.md."""

__version__ = "0.1.0"
