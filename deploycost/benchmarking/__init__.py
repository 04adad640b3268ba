"""Load tests of endpoints: what one variant carries on this machine, how sure that is, and whether to trust it."""
