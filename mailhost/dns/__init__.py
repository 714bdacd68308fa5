"""Names to addresses: resolver, cache, MX and address look-ups."""
