"""
Becoming the user whose data it is.

A command that root starts must not leave files of root among the mail, nor follow a link that the
mail's owner planted there with root's rights: before it opens a file of the data directory it
becomes the directory's owner, for good.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from mailhost.errors import DataDirectoryError


def take_identity(directory: Path) -> None:
    """
    Become the owner of the data directory, if we are root and it belongs to someone else.

    Raises:
        DataDirectoryError: root is asked to work in a directory that does not exist.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = directory.stat()
    except FileNotFoundError:
        raise DataDirectoryError(
            f"{directory} does not exist; create it for the user that the server runs as: "
            f"install -d -m 700 -o USER {directory}"
        ) from None
    except OSError as error:
        raise DataDirectoryError(f"{directory}: {error.strerror}") from None
    if owner.st_uid != 0:
        become(owner.st_uid, owner.st_gid)


def become(uid: int, gid: int) -> None:
    """Give up root for another user, its groups included, with no way back."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
    else:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(uid, uid, uid)
