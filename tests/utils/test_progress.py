"""Progress bars appear only on a terminal."""

import io
import sys

import pytest

from fastervit_backbone.utils.progress import progress_bar

pytest.importorskip('rich')


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('total', [3, None])
def test_bar_on_a_terminal(total, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', terminal := Terminal())
    monkeypatch.setenv('TERM', 'xterm')
    letters = (letter for letter in 'abc')  # without a length
    assert list(progress_bar(letters, total, 'clip [1].mp4')) == ['a', 'b', 'c']
    assert 'clip [1].mp4' in terminal.getvalue() and f'3/{total or "?"}' in terminal.getvalue()


def test_nothing_to_do_shows_no_bar(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', terminal := Terminal())
    assert list(progress_bar('', 0, 'images')) == [] and terminal.getvalue() == ''


def test_no_output_without_a_terminal(capsys):
    assert list(progress_bar('abc', 3, 'letters')) == ['a', 'b', 'c']
    assert capsys.readouterr() == ('', '')


def test_an_error_in_the_loop_ends_the_bar(monkeypatch):
    monkeypatch.setattr(sys, 'stderr', terminal := Terminal())
    monkeypatch.setenv('TERM', 'xterm')
    with pytest.raises(RuntimeError):
        for _ in progress_bar('abc', 3, 'letters'):
            raise RuntimeError
    assert terminal.getvalue().endswith('\x1b[?25h')  # the cursor is visible again
