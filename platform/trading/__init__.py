"""The language all rooms speak: money, instruments, accounts, orders, positions, ledger, refusals, commands, events.

Pure: nothing here knows a framework, a socket, a clock or a database. Values are immutable; to change one is to make a
new one (`msgspec.structs.replace`). Times are integer microseconds since 1970-01-01 UTC (`..._us`), amounts are Decimal.
"""
