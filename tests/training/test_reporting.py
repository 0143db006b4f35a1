import re
from collections.abc import Mapping
from io import StringIO

import pytest
from rich.console import Console

from onlygood.core.errors import TrainingDiverged
from onlygood.core.settings import Training
from onlygood.core.stage import Stage
from onlygood.training import History, Trainer
from onlygood.training.health import Record
from onlygood.training.reporting import ProgressBar, Reporter, Silent
from tests.training.toys import Toy, numbered


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.advances: list[tuple[float, float, dict[str, float]]] = []
        self.records: list[Record] = []

    def start(self, words: str) -> None:
        self.calls.append(f"start {words}")

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        self.calls.append("advance")
        self.advances.append((share, images_per_second, dict(terms)))

    def record(self, record: Record) -> None:
        self.records.append(record)

    def note(self, words: str) -> None:
        self.calls.append(f"note {words}")

    def finish(self) -> None:
        self.calls.append("finish")


def trained(reporter: Reporter, *, bad: bool = False) -> History:
    toy = Toy(
        lambda t: [
            Stage(name="look", before=list),
            Stage(
                name="play",
                updates=[
                    t.update(
                        "one",
                        t.one,
                        term=(lambda b: t.one.weight.expand(4) * float("nan")) if bad else None,
                    )
                ],
            ),
        ]
    )
    settings = Training(steps=4, batch_size=4, log_every=2, precision="float32")
    return Trainer(settings, device="cpu", reporter=reporter).fit(toy, numbered(10))


def test_stages_are_announced_and_their_share_grows():
    heard = Heard()
    history = trained(heard)
    assert heard.records == history.records
    assert [record["step"] for record in heard.records] == [0, 1, 2, 4]
    assert heard.calls == [
        *("start look", "finish", "start play"),
        *("advance", "advance", "advance", "finish", "finish"),
    ]
    assert [share for share, _, _ in heard.advances] == [0.25, 0.5, 1.0]
    assert all(rate > 0 for _, rate, _ in heard.advances)
    assert set(heard.advances[0][2]) == {"one/value", "one/gradient_norm"}


def test_a_run_that_fails_is_finished_too():
    heard = Heard()
    with pytest.raises(TrainingDiverged):
        trained(heard, bad=True)
    assert heard.calls[-1] == "finish"


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]):
    silent = Silent()
    trained(silent)
    silent.note("anything")
    assert capsys.readouterr() == ("", "")


def console(*, terminal: bool) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, force_terminal=terminal, width=160), file


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_the_bar_shows_the_stage_the_rate_and_the_newest_losses():
    where, file = console(terminal=True)
    bar = ProgressBar(where)
    bar.start("playing")
    bar.advance(0.25, 1234.4, {"critic/loss": 0.12345, "b": 2.0, "c": 3.0, "d": 4.0})
    bar.finish()
    shown = plain(file.getvalue())
    assert "playing" in shown
    assert "25%" in shown
    assert "1,234 images/s" in shown
    assert "critic/loss 0.123  b 2  c 3" in shown
    assert "d 4" not in shown


def test_the_bar_never_passes_its_end():
    where, file = console(terminal=True)
    bar = ProgressBar(where)
    bar.start("playing")
    bar.advance(1.2, 10.0, {})
    bar.finish()
    assert "100%" in plain(file.getvalue())
    assert "120%" not in plain(file.getvalue())


def test_a_new_stage_ends_the_line_of_the_last():
    where, file = console(terminal=True)
    bar = ProgressBar(where)
    bar.start("first")
    bar.start("second")
    bar.finish()
    assert "first" in plain(file.getvalue()) and "second" in plain(file.getvalue())


def test_without_a_terminal_there_are_notes_but_no_bar():
    where, file = console(terminal=False)
    bar = ProgressBar(where)
    bar.start("playing")
    bar.advance(0.5, 10.0, {"a": 1.0})
    bar.note("a sentence with [brackets] of 3 words")
    bar.finish()
    assert file.getvalue() == "a sentence with [brackets] of 3 words\n"


def test_calls_without_a_stage_do_no_harm():
    where, file = console(terminal=True)
    bar = ProgressBar(where)
    bar.advance(0.5, 10.0, {})
    bar.finish()
    bar.finish()
    assert file.getvalue() == ""
