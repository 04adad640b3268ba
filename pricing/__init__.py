"""Dated, sourced prices of cloud machines and LLM APIs, and nothing else."""
