"""Double-entry rows that the engine wrote, and the door for deposits."""
