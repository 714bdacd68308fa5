"""What a session knows of the message it is being given."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailhost.address import Address
from mailhost.interfaces.spool import Recipient
from mailhost.smtp.reception import Reception
from mailhost.wire.smtp_grammar import MailArguments


@dataclass(slots=True)
class Transaction:
    """
    From MAIL to the end of data (RFC 5321 3.3).

    Args:
        recipients: those accepted, each forward-path once.
        reception: takes the content; None before DATA or the first BDAT.
    """

    mail: MailArguments
    recipients: dict[Address, Recipient] = field(default_factory=dict)
    reception: Reception | None = None
