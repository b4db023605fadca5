"""The journal of an import: what it takes up, what it does not believe, and the ids that it gives."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from medtrail.cli.capture import import_progress
from medtrail.cli.import_journal import Answered, ImportName, Journal, sha256_of
from medtrail.epcis import Position
from medtrail.errors import ConflictError

NAME = ImportName("maker", sha256_of(io.BytesIO(b"document")), second_hand=False)


def answered(first: int, count: int = 2) -> Answered:
    ids = [f"id{first + number}" for number in range(count)]
    return Answered(first, first + count, Position(first + count, 100 * first), 1, ids, ["00"] * count)


def test_run_that_was_cut_short_is_taken_up_where_it_was(tmp_path: Path) -> None:
    path = NAME.journal(tmp_path)
    journal = Journal(path, NAME)
    assert journal.resumed is None
    first_id = journal.request_id(2, b"content")
    journal.note(answered(0))
    journal.note(answered(2))
    journal.close()
    path.write_bytes(path.read_bytes() + b'{"first": 4, "af')

    again = Journal(path, NAME)

    assert again.resumed == answered(2)
    assert again.request_id(2, b"content") == first_id
    again.note(answered(4))
    assert list(again.answered()) == [answered(0), answered(2), answered(4)]
    again.close()


def test_run_that_is_done_is_followed_by_one_of_its_own(tmp_path: Path) -> None:
    path = NAME.journal(tmp_path)
    journal = Journal(path, NAME)
    journal.note(answered(0))
    first_id = journal.request_id(0, b"content")
    journal.finish()
    journal.close()

    again = Journal(path, NAME)

    assert again.resumed is None
    assert list(again.answered()) == []
    assert again.request_id(0, b"content") != first_id
    again.close()
    unchanged = Journal(path, NAME)
    assert unchanged.request_id(0, b"content") == again.request_id(0, b"content"), "nothing was sent in between"
    unchanged.close()


def test_request_id_follows_from_file_place_content_and_role(tmp_path: Path) -> None:
    journal = Journal(NAME.journal(tmp_path), NAME)
    hands = ImportName("maker", NAME.sha256, second_hand=True)
    other = ImportName("maker", sha256_of(io.BytesIO(b"other")), second_hand=False)
    journals = [Journal(name.journal(tmp_path), name) for name in (hands, other)]
    ids = [
        journal.request_id(0, b"a"),
        journal.request_id(1, b"a"),
        journal.request_id(0, b"b"),
        *(found.request_id(0, b"a") for found in journals),
    ]

    assert len(set(ids)) == len(ids)
    assert journal.request_id(0, b"a") == ids[0]
    for found in (journal, *journals):
        found.close()


def test_journal_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal(NAME.journal(tmp_path), NAME)
    with pytest.raises(ConflictError) as caught:
        Journal(NAME.journal(tmp_path), NAME)
    assert caught.value.code == "IMPORT_RUNNING"
    journal.close()
    Journal(NAME.journal(tmp_path), NAME).close()


def test_progress_shows_events_speed_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # on a dumb terminal, as in CI, bars are not drawn
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with import_progress(console, shown=True) as progress:
        task = progress.add_task("", total=1000, completed=100, events=500)
        progress.update(task, completed=600, events=1500)
        progress.refresh()

    assert "1500 events" in output.getvalue()
    assert "events/s" in output.getvalue()
