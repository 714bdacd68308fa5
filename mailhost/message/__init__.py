"""The Internet message: header, MIME structure, and the IMAP views of both."""
