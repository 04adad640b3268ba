"""Measurements of the product against what a user would write without it; how to read them is in README.md."""
