"""What the peers write: grammar and framing of each protocol, without sockets."""
