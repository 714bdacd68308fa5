"""
Recipients by which open relays were found, for a server whose domain is ``example.org``.

Each must be refused to whoever did not log in. The outside address is ``victim`` at
``far.example``; the server is also ``mx.example.org`` and ``[192.0.2.1]``. The forms are those of
RFC 5321 Path without the angle brackets.
"""

RELAY_FORMS: tuple[str, ...] = (
    # Plain outside addresses, also dressed up.
    "victim@far.example",
    "VICTIM@FAR.EXAMPLE",
    '"victim"@far.example',
    "victim@[192.0.2.200]",
    "victim@[IPv6:2001:db8::200]",
    "victim@sub.example.org",
    "victim@example.org.far.example",
    "victim@notexample.org",
    "victim@example.org.",
    "victim@",
    "victim",
    "@far.example",
    # Percent hack.
    "victim%far.example@example.org",
    "victim%far.example@mx.example.org",
    "victim%far.example@[192.0.2.1]",
    "victim%far.example",
    "victim%far.example%other.example@example.org",
    '"victim%far.example"@example.org',
    "victim%far.example@far.example",
    # Bang paths.
    "far.example!victim",
    "far.example!victim@example.org",
    "example.org!far.example!victim@example.org",
    "far.example!victim@[192.0.2.1]",
    "far.example!victim@mx.example.org",
    '"far.example!victim"@example.org',
    # Source routes: what they lead to counts.
    "@example.org:victim@far.example",
    "@example.org,@far.example:victim@far.example",
    "@mx.example.org:victim@far.example",
    "@[192.0.2.1]:victim@far.example",
    "@far.example:victim%far.example@example.org",
    # An address in an address.
    '"victim@far.example"@example.org',
    '"victim@far.example"',
    '"victim@far.example"@[192.0.2.1]',
    '"victim@far.example"@mx.example.org',
    "victim@far.example@example.org",
    "victim@example.org@far.example",
    r'"victim\@far.example"@example.org',
    "victim=far.example@example.org",
    "<victim@far.example>@example.org",
    # Tags and separators that some mailers unfold.
    "nobody+victim@example.org",
    "nobody+victim=far.example@example.org",
    "+victim@example.org",
    "victim;far.example@example.org",
    "victim:far.example@example.org",
    "far.example:victim@example.org",
    "victim/far.example@example.org",
    "smtp:victim@far.example@example.org",
    "IMCEASMTP-victim+40far+2Eexample@example.org",
    # Programs and files.
    '"|/bin/sh"@example.org',
    "|id@example.org",
    "/etc/passwd@example.org",
    '"/var/mail/root"@example.org',
    ":include:/etc/passwd@example.org",
    # Hosts that only look like ours.
    "victim@localhost",
    "victim@localhost.localdomain",
    "victim@[127.0.0.1]",
    "victim@[IPv6:::1]",
    "victim@[0.0.0.0]",
    "victim@[192.0.2.1].far.example",
    "victim@192.0.2.1",
    "postmaster@far.example",
    "postmaster%far.example@example.org",
    "victim@xn--example-.org",
    "victim@exa\u0440mple.org",
)
