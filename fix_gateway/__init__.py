"""QuickFIX at the door: initiator sessions to liquidity providers. `wire` (pure) maps fields to messages and back."""
