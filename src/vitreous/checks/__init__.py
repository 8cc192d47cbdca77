"""What is wrong with a design before a minute is spent on it: findings with their arithmetic, and edits that mend."""
