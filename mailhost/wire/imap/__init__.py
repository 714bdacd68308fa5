"""The grammar of IMAP4: what a client writes and what a server answers."""
