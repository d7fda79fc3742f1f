"""FIX 4.4 messages as text, and the values they mean. Pure: no session, no socket, no clock.

`message` takes raw text apart, `market_data` keeps books of entries, `orders` maps orders out and reports in. Nothing in
here raises for what a counterparty sends: what cannot be read is said so in the result.
"""
