"""Where a number inside a network comes from, and what a layer made of an image."""
