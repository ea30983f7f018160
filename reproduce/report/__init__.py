"""What is written about the figures: verdicts in words, and the page REPRODUCING.md."""
