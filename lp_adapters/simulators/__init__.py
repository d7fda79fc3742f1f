"""Simulated providers: counterparties that speak real FIX 4.4 on loopback (`lpsim`), and the process that prices them (`feed`).

`desk`, `market`, `generator`, `recording` and `conflation` are pure: what they need is handed in, and what should be sent
is handed back. `counterparty`, `lpsim` and `feed` are the edges. Nothing here knows the platform's database or engine.
"""
