"""The same model behind the servers that others would write: small scripts, each run in the peers' own environment."""
