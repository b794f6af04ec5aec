"""What long work shows on a terminal, and where there is none."""

from __future__ import annotations

import io

from rich.console import Console

from vaegan.cli.progress import Bar, left
from vaegan.cli.stages import Stages


def line(shown: Bar | Stages, text: str, share: float) -> str:
    """What a terminal of 80 columns shows of a bar."""
    task = shown.progress.add_task(text, total=1.0) if isinstance(shown, Bar) else shown.task
    shown.progress.update(task, completed=share, description=text)
    terminal = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    terminal.print(shown.progress.get_renderable())
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_a_usual_terminal_shows_bar_share_and_time_to_go() -> None:
    losses = "step 1234  pixel 61.72  similarity 11.2  kl 15.01  gan 1.522  fooling 0.12  250 img/s"
    for shown in (Bar("training"), Stages()):
        text = line(shown, losses, 0.5)
        assert text.count("\n") == 1, "one line"
        assert "━" * 8 in text and " 50% " in text and "-:--:--" in text
        assert "step 1234  pixel" in text and "…" in text  # what gives way


def test_time_to_go() -> None:
    assert left(60, 0.25, 0.75) == "0:03:00"
    assert left(3600, 0.5, 0.5) == "1:00:00"
    assert left(5, 1.0, 0.0) == left(5, 1.02, -0.02) == "0:00:00"
