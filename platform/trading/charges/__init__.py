"""What trading costs besides the price: commissions, exchange-style fees, swaps. Amounts only; posting them is the engine's."""
