"""
The sending side of SMTP: one connection, one session on it, transactions in the session.

`connection` moves octets and replies, `session` knows the order of commands, `content` reads the
message, `status` says what a reply means for a recipient. Nothing here knows of queues, routes or
policies: `mailhost.relay` does.
"""
