"""
Octets to text by charset name, for a fixed list of text encodings only.

Python's codec registry is never asked with a name from a message: it knows codecs that are no
charsets (rot13, zip), and charsets that hide text from filters (UTF-7).
"""

from __future__ import annotations

_CODECS: dict[str, str] = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    # US-ASCII and ISO 8859-1 mean windows-1252 in practice, as browsers take them.
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "ansi_x3.4-1968": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "ibm437": "cp437",
    "cp437": "cp437",
    "ibm850": "cp850",
    "cp850": "cp850",
    "ibm852": "cp852",
    "ibm866": "cp866",
    "cp866": "cp866",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "gb18030": "gb18030",
    "hz-gb-2312": "hz",
    "euc-jp": "euc-jp",
    "iso-2022-jp": "iso2022-jp-2",
    "iso-2022-jp-1": "iso2022-jp-2",
    "iso-2022-jp-2": "iso2022-jp-2",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "windows-31j": "cp932",
    "cp932": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "cp949": "cp949",
    "iso-2022-kr": "iso2022-kr",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
for _number in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16):
    _CODECS[f"iso-8859-{_number}"] = _CODECS[f"iso8859-{_number}"] = f"iso8859-{_number}"
for _number in (1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258):
    _CODECS[f"windows-{_number}"] = _CODECS[f"cp{_number}"] = f"cp{_number}"


def is_known(charset: str) -> bool:
    """Whether the charset is one of the list; names compare caseless."""
    return charset.lower() in _CODECS


def decode(octets: bytes, charset: str) -> str:
    """Return the text, with U+FFFD for what is not text; unknown charsets are guessed."""
    codec = _CODECS.get(charset) or _CODECS.get(charset.lower())
    if codec is None or codec == "cp1252":
        return guess(octets)
    return octets.decode(codec, "replace")


def guess(octets: bytes) -> str:
    """Return the text of octets in no stated charset: UTF-8 if they are, else windows-1252."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")
