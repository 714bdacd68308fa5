"""
The replies of the SMTP server that say the same every time.

Each is one value, so that its octets are made once. The texts tell a person what to do.
"""

from __future__ import annotations

from typing import Final

from mailhost.reply import Reply

_of = Reply.of

OK: Final = _of(250, "2.0.0", "OK")
SENDER_OK: Final = _of(250, "2.1.0", "Sender accepted")
RECIPIENT_OK: Final = _of(250, "2.1.5", "Recipient accepted")
START_MAIL: Final = _of(354, "", "Send the message, end with CRLF.CRLF")
BYE: Final = _of(221, "2.0.0", "Bye", close=True)
START_TLS: Final = _of(220, "2.0.0", "Start TLS now")
CANNOT_VERIFY: Final = _of(252, "2.5.0", "Cannot verify; send mail and see")
LOGGED_IN: Final = _of(235, "2.7.0", "Login accepted")

UNKNOWN_COMMAND: Final = _of(500, "5.5.1", "Unknown command, HELP lists those that are")
NOT_SMTP: Final = _of(500, "5.5.1", "This port speaks SMTP", close=True)
NOT_IMPLEMENTED: Final = _of(502, "5.5.1", "Command not implemented")
NO_ARGUMENT: Final = _of(501, "5.5.4", "This command takes no argument")
BAD_ARGUMENT: Final = _of(501, "5.5.4", "Cannot understand the argument")
BAD_CHUNK: Final = _of(501, "5.5.4", "Write BDAT size or BDAT size LAST", close=True)
BAD_SENDER: Final = _of(501, "5.1.7", "Write MAIL FROM:<user@domain>")
BAD_RECIPIENT: Final = _of(501, "5.1.3", "Write RCPT TO:<user@domain>")
NEEDS_UTF8: Final = _of(553, "5.6.7", "Address is not ASCII; give MAIL the parameter SMTPUTF8")
UNKNOWN_PARAMETER: Final = _of(555, "5.5.4", "Parameter not recognized")

LINE_TOO_LONG: Final = _of(500, "5.5.2", "Line too long", close=True)
AUTH_LINE_TOO_LONG: Final = _of(500, "5.5.6", "Authentication line too long", close=True)
BARE_LF: Final = _of(500, "5.5.2", "Lines must end with CRLF", close=True)

HELLO_FIRST: Final = _of(503, "5.5.1", "Say EHLO first")
MAIL_FIRST: Final = _of(503, "5.5.1", "Give a sender with MAIL first")
MAIL_TWICE: Final = _of(503, "5.5.1", "A sender was given already; RSET starts anew")
NO_RECIPIENTS: Final = _of(554, "5.5.1", "No recipient was accepted")
IN_CHUNKS: Final = _of(503, "5.5.1", "The message comes in chunks; BDAT LAST or RSET ends it")
NOT_ALONE: Final = _of(503, "5.5.1", "Wait for the answer to that command", close=True)
TALKED_FIRST: Final = _of(554, "5.5.1", "Wait for the greeting", close=True)

TLS_NOT_HERE: Final = _of(502, "5.5.1", "TLS is not available here")
TLS_ALREADY: Final = _of(503, "5.5.1", "TLS is active already")
TLS_FIRST: Final = _of(530, "5.7.0", "Say STARTTLS first")
LOGIN_FIRST: Final = _of(530, "5.7.0", "Log in first")

AUTH_NOT_HERE: Final = _of(502, "5.5.1", "Nobody logs in here; use the submission port")
AUTH_TWICE: Final = _of(503, "5.5.1", "Logged in already")
AUTH_NOT_NOW: Final = _of(503, "5.5.1", "Not within a message")
AUTH_MECHANISM: Final = _of(504, "5.5.4", "Mechanism not offered")
AUTH_ENCRYPTION: Final = _of(538, "5.7.11", "Encryption required, say STARTTLS first")
AUTH_BASE64: Final = _of(501, "5.5.2", "Not base64")
AUTH_CANCELLED: Final = _of(501, "5.7.0", "Login cancelled")
AUTH_MALFORMED: Final = _of(501, "5.5.2", "Not a message of that mechanism")
AUTH_FAILED: Final = _of(535, "5.7.8", "User name or password wrong")
AUTH_LATER: Final = _of(454, "4.7.0", "Cannot check logins now, try again later")

TOO_BIG_CLOSE: Final = _of(552, "5.3.4", "Message too big", close=True)
BARE_LINE_ENDS: Final = _of(550, "5.6.0", "Message has a CR or LF alone; lines must end with CRLF")
HAS_NUL: Final = _of(550, "5.6.0", "Message has a NUL octet")
TOO_MANY_HOPS: Final = _of(554, "5.4.6", "Too many hops, the mail is in a loop")
TOO_MANY_FROM: Final = _of(550, "5.6.0", "More than one From field")
BAD_FROM: Final = _of(550, "5.6.0", "The From field names no address")

SPOOL_FULL: Final = _of(452, "4.3.1", "No room for mail now, try again later")
SPOOL_FAULT: Final = _of(451, "4.3.0", "Cannot store mail now, try again later")
OUR_FAULT: Final = _of(451, "4.3.0", "Something failed here, try again later")
TOO_MANY_CONNECTIONS: Final = _of(421, "4.7.0", "Too many connections, try later", close=True)
TOO_MANY_ERRORS: Final = _of(421, "4.7.0", "Too many failed commands", close=True)
TOO_MANY_LOGINS: Final = _of(421, "4.7.0", "Too many failed logins", close=True)
TIMEOUT: Final = _of(421, "4.4.2", "Waited too long", close=True)
TOO_SLOW: Final = _of(421, "4.4.2", "The message comes too slowly", close=True)
SESSION_TOO_LONG: Final = _of(421, "4.4.2", "The session lasts too long", close=True)
SHUTTING_DOWN: Final = _of(421, "4.3.2", "The server stops, try again later", close=True)
