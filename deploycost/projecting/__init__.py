"""What a variant carries on a machine that was not measured, and how sure that is."""
