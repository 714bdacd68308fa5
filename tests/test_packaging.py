"""What a wheel and an editable install contain, built without the network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost import __version__

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "twisted/plugins/mailhost_plugin.py"

LIST_PLUGINS = """
from twisted.plugin import getPlugins
from twisted.application.service import IServiceMaker
print([each.tapname for each in getPlugins(IServiceMaker) if each.tapname == "mailhost"])
"""


def build(hook: str, target: Path) -> Path:
    """Build a wheel or an editable one with the back end that pip would call."""
    for module in ("hatchling", "editables" if "editable" in hook else "hatchling"):
        if find_spec(module) is None:
            raise SkipTest(f"{module} is not installed")
    target.mkdir()
    program = f"from hatchling.build import {hook}; print({hook}({str(target.absolute())!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return target / done.stdout.split()[-1]


def run_with(path: Path, program: str) -> str:
    """Run Python with that directory added as pip would add it."""
    bootstrap = f"import site; site.addsitedir({str(path.absolute())!r})\n"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", bootstrap + program],
        cwd=path,
        capture_output=True,
        text=True,
        env=environ,
        check=True,
    )
    return done.stdout.strip()


class WheelTests(SynchronousTestCase):
    """The wheel."""

    def setUp(self) -> None:
        self.wheel = build("build_wheel", Path(self.mktemp()))
        self.names = zipfile.ZipFile(self.wheel).namelist()

    def test_it_has_the_package_and_the_plugin_only(self) -> None:
        """An ``__init__.py`` below ``twisted`` would overwrite Twisted's own."""
        information = f"mailhost-{__version__}.dist-info/"
        shared = f"mailhost-{__version__}.data/data/share/mailhost/"
        inside = [name for name in self.names if name.startswith("mailhost/")]
        others = {
            name
            for name in self.names
            if not name.startswith(("mailhost/", information)) and name != PLUGIN
        }
        self.assertIn(PLUGIN, self.names)
        self.assertEqual(others, {f"{shared}mailhost.toml", f"{shared}mailhost.service"})
        expected = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "mailhost").rglob("*")
            if path.is_file() and (path.suffix == ".py" or path.name == "py.typed")
        }
        self.assertEqual(set(inside), expected)

    def test_its_script_and_requirements(self) -> None:
        """The console script, and no more than seven hard requirements (R-109)."""
        archive = zipfile.ZipFile(self.wheel)
        information = f"mailhost-{__version__}.dist-info"
        scripts = archive.read(f"{information}/entry_points.txt").decode()
        self.assertIn("mailhost = mailhost.tap:main", scripts)
        metadata = archive.read(f"{information}/METADATA").decode()
        hard = [
            line
            for line in metadata.splitlines()
            if line.startswith("Requires-Dist:") and "extra ==" not in line
        ]
        self.assertLessEqual(len(hard), 7)
        self.assertIn("License-Expression: MIT", metadata)

    def test_the_plugin_is_found_where_it_is_installed(self) -> None:
        """Twistd lists it, and Twisted is still Twisted."""
        place = Path(self.mktemp())
        zipfile.ZipFile(self.wheel).extractall(place)
        self.assertEqual(run_with(place, LIST_PLUGINS), "['mailhost']")
        where = run_with(place, "import mailhost; print(mailhost.__file__)")
        self.assertTrue(where.startswith(str(place.absolute())), where)

    def test_it_is_built_alike_twice(self) -> None:
        """The same sources give the same octets (R-109)."""
        again = build("build_wheel", Path(self.mktemp()))
        self.assertEqual(again.read_bytes(), self.wheel.read_bytes())


class EditableTests(SynchronousTestCase):
    """``pip install -e``."""

    def test_the_plugin_is_found_in_the_checkout(self) -> None:
        """The root of the checkout is put on the path, so that twistd sees the plugin."""
        wheel = build("build_editable", Path(self.mktemp()))
        place = Path(self.mktemp())
        zipfile.ZipFile(wheel).extractall(place)
        self.assertEqual(run_with(place, LIST_PLUGINS), "['mailhost']")
        where = run_with(place, "import mailhost; print(mailhost.__file__)")
        self.assertEqual(where, str(ROOT / "mailhost" / "__init__.py"))


class CheckoutTests(SynchronousTestCase):
    """The tree itself."""

    def test_twisteds_directories_have_no_init(self) -> None:
        """Either of them would hide Twisted or the plugin."""
        found = sorted(
            str(path.relative_to(ROOT))
            for path in (ROOT / "twisted").rglob("*")
            if path.is_file() and path.suffix == ".py"
        )
        self.assertEqual(found, [PLUGIN])

    def test_importing_the_plugin_imports_nothing_of_ours(self) -> None:
        """It runs whenever anybody lists plugins."""
        program = (
            f"import sys, runpy; runpy.run_path({str(ROOT / PLUGIN)!r}); "
            "print([name for name in sys.modules if name.split('.')[0] == 'mailhost'])"
        )
        self.assertEqual(run_with(ROOT, program), "[]")
