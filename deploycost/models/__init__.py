"""Networks shared by tuning and exporting: the base encoder, virtual tokens, and what an adapter folder holds."""
