"""Fine-tuning: the table of methods, the training of one, and what was measured on the way."""
