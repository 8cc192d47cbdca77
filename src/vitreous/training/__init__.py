"""The trainer: one loop, its step, optimizer, schedule, recipe and engine."""
