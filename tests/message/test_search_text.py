"""Text without markup, a window at a time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message import search_text

PIECES = st.sampled_from(
    [
        *"< a > </ !-- --> script <script> </script> style <b> </b <!-- <em span <p> 1".split(),
        " ",
        "<acronym",
        "word",
    ]
)


class WindowTests(SynchronousTestCase):
    """Where a window ends does not matter."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.lists(PIECES, max_size=60), st.integers(17, 40))
    def test_windows_change_nothing(self, pieces: list[str], window: int) -> None:
        """P6: markup that goes on behind a window is found as in one look at everything."""
        text = "".join(pieces)
        self.patch(search_text, "_WINDOW", 1 << 20)
        whole = search_text.html_to_text(text)
        self.patch(search_text, "_WINDOW", window)
        self.assertEqual(search_text.html_to_text(text), whole)

    def test_nearly_markup(self) -> None:
        """A text of nothing but openings comes back as it is, in many short looks."""
        text = "<" * 100_000
        self.assertEqual(search_text.html_to_text(text), text)
