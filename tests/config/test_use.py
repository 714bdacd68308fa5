"""Every setting has an effect."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost import config
from mailhost.config.loading import is_section, optional_inner, settings_of
from mailhost.config.sections import Config

PACKAGE = Path(config.__file__).parent.parent


class UseTests(SynchronousTestCase):
    """A setting that nobody reads is a promise that is not kept."""

    def test_every_setting_is_read_somewhere(self) -> None:
        """Its name stands as an attribute in the code that builds the server."""
        source = "\n".join(
            path.read_text()
            for path in PACKAGE.rglob("*.py")
            if path.relative_to(PACKAGE).parts[0] in ("service", "tap.py", "sockets.py", "tls.py")
        )
        source += (PACKAGE / "config" / "sections.py").read_text()
        unread = [name for name in _names(Config) if not re.search(rf"\.{name}\b", source)]
        self.assertEqual(unread, [])


def _names(section: type) -> list[str]:
    found: list[str] = []
    for entry, hint in settings_of(section):
        inner = optional_inner(hint)
        inner = inner.__args__[0] if getattr(inner, "__args__", None) else inner
        found.append(entry.name)
        if is_section(inner):
            found += _names(inner)
    return found
