import io
import sys

import pytest

from cellnet_sd import progress as module
from cellnet_sd.progress import progress, say
from cellnet_sd.settings import settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **kwargs) -> str:
    """Run through 100 items with stderr being `stream`; return what it shows."""
    # Within the test, not in a fixture: pytest's capture puts its own stderr back between the two.
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        list(progress(range(100), total=100, desc="Reading", **kwargs))
    return stream.getvalue()


def test_items_pass_unchanged():
    assert list(progress(iter([3, 1, 2]), total=3, desc="Reading")) == [3, 1, 2]


def test_nothing_within_a_second(monkeypatch):
    assert shown(monkeypatch, Terminal()) == ""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELAY", 0.0)


@pytest.mark.usefixtures("at_once")
def test_bar_after_the_delay(monkeypatch):
    text = shown(monkeypatch, Terminal(), unit="patches")
    assert "Reading: 100%" in text
    assert "patches/s" in text


@pytest.mark.usefixtures("at_once")
def test_nothing_without_a_terminal(monkeypatch):
    assert shown(monkeypatch, io.StringIO()) == ""


@pytest.mark.usefixtures("at_once")
def test_nothing_when_the_setting_says_no(monkeypatch):
    with settings.override(progress=False):
        assert shown(monkeypatch, Terminal()) == ""


@pytest.mark.parametrize(
    ("stream", "is_on", "expected"), [(Terminal, True, "So\n"), (Terminal, False, ""), (io.StringIO, True, "")]
)
def test_words_are_shown_where_bars_are(monkeypatch, stream, is_on, expected):
    shown = stream()
    with monkeypatch.context() as patch, settings.override(progress=is_on):
        patch.setattr(sys, "stderr", shown)
        say("So")
    assert shown.getvalue() == expected
