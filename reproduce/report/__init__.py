"""What is written about the figures from the specs and the reference traces alone."""
