"""The limits of an IMAP server, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IMAPSettings:
    """
    Limits of one listener's sessions. Sizes in octets, times in seconds.

    Args:
        max_line_before_login, max_literal_before_login: of a command and all its literals before
            anyone logged in.
        max_line, max_literal: of a command and all its literals (not the message of an APPEND)
            afterwards.
        max_sasl_line: a line of a SASL exchange.
        max_message: the largest message that APPEND takes; offered as APPENDLIMIT.
        login_timeout: silence before login.
        login_deadline: the whole time until a login must have succeeded.
        idle_timeout: silence after login (RFC 9051 5.4: at least 30 minutes).
        idle_keepalive: between signs of life during IDLE, 0 for none.
        output_timeout: how long the client may read nothing of what is written.
        max_bad_commands: commands answered BAD before the session is ended.
        max_failed_logins: logins answered NO before the session is ended.
        portion: messages asked of the store at once for FETCH; `content_portion` when their
            octets are wanted.
    """

    max_line_before_login: int = 8192
    max_literal_before_login: int = 4096
    max_line: int = 65536
    max_literal: int = 262144
    max_sasl_line: int = 12288
    max_message: int = 50_000_000
    login_timeout: float = 60.0
    login_deadline: float = 180.0
    idle_timeout: float = 1800.0
    idle_keepalive: float = 120.0
    output_timeout: float = 300.0
    max_bad_commands: int = 20
    max_failed_logins: int = 5
    portion: int = 1000
    content_portion: int = 16
