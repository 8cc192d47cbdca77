"""What the commands do: each function composes the rooms below; the command line only parses and prints."""
