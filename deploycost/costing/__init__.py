"""Arithmetic on records and prices: no files, no clock, no randomness."""
