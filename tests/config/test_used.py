"""No setting is decoration."""

from __future__ import annotations

import ast
from dataclasses import fields, is_dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mailhost
from mailhost.config import sections

PACKAGE = Path(mailhost.__file__).parent


class UseTests(SynchronousTestCase):
    """What the file can say is done."""

    def test_every_setting_is_read_somewhere(self) -> None:
        """A setting that nothing reads promises an operator what does not happen."""
        read = {
            node.attr
            for path in PACKAGE.rglob("*.py")
            if path.name != "sections.py"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        }
        # The label of a listener stands for its name.
        unread = [
            f"{section.__name__}.{setting.name}"
            for section in vars(sections).values()
            if isinstance(section, type) and is_dataclass(section)
            for setting in fields(section)
            if setting.name not in read
        ]
        self.assertEqual(unread, [])
