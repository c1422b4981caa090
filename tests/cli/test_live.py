import io
import re

from dtcwsi.cli import live
from dtcwsi.cli.live import RunProgress
from dtcwsi.cli.tally import Tally
from dtcwsi.pipeline import SlideResult


def _result(slide_id, done=("features",)):
    return SlideResult(slide_id, 0.5, 1.5e6, 1234, None, done, {"read": 2.0, "encode": 4.0})


def _run(progress):
    with progress:
        progress.slide(_result("new"))
        progress.slide(_result("old", ()))
        progress.slide(("bad", "open", "'bad.svs' is no slide"))
        progress.patches(1234)


def test_a_log_has_a_line_a_slide_worked_on_and_now_and_then_the_tally(capsys, monkeypatch):
    _run(RunProgress(Tally(4)))
    assert capsys.readouterr().err.splitlines() == [
        "[1/4] new: 1.50 mm2 tissue, 1,234 patches, 6.0 s",
        "[3/4] bad: FAILED at open: 'bad.svs' is no slide",
    ]
    monkeypatch.setattr(live, "_TOLD_S", 0.0)
    _run(RunProgress(Tally(4)))
    last = capsys.readouterr().err.splitlines()[-1]
    pattern = (
        r"so far 1 done, 1 kept, 1 failed, 0 empty, 1 left, 1,234 patches; [\d,.]+ patches a second; time left about"
    )
    assert re.match(pattern, last)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        raise OSError


def test_a_terminal_has_a_table_in_its_place_below_the_failures(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(live, "_REDRAWN_S", 0.0)
    _run(RunProgress(Tally(4)))
    lines = _screen(screen.getvalue())
    assert lines[0] == "[3/4] bad: FAILED at open: 'bad.svs' is no slide"
    assert " ".join(lines[1].split()) == "slides done kept failed empty left patches patches/s time left"
    assert lines[2].split()[:7] == ["4", "1", "1", "1", "0", "1", "1,234"]
    assert [line for line in lines[3:] if line] == []
    assert all(len(line) <= 80 for line in lines)


def _screen(written):
    """What is left standing after cursor moves."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b"):
            assert token == "\x1b[A"
            row = max(0, row - 1)
        else:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines]
