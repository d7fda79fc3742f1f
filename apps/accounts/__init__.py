"""Logins, their trading accounts, the groups' terms, and the tokens that prove who is asking."""
