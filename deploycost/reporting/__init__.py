"""Records in, text out: tables for the terminal, figures, and the page that keeps them together."""
