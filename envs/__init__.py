"""Environments. Importing this package registers every id with Gymnasium and loads none of them."""
