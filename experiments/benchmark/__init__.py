"""How fast the library is, beside others on the same physics."""
