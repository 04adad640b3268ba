"""One verb per file, thin: read the flags, call the stages, print a table or one JSON document."""
