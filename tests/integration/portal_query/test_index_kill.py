"""An index whose process is killed at any moment holds whole changes, up to its cursor, and goes on from there."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from tests.unit.portal_query.conftest import START, Shelf, object_event

# Adds events one by one until it is killed, and tells the number of each that was taken in.
SCRIPT = """
import sys
from datetime import timedelta
from pathlib import Path
from tests.unit.portal_query.conftest import START, Shelf, object_event

shelf = Shelf(Path(sys.argv[1]))
shelf.number = shelf.repository.cursor.number
while True:
    pack = f"https://id.gs1.org/01/00300010123455/21/{shelf.number}"
    shelf.add(object_event(event_time=START + timedelta(seconds=shelf.number), epc_list=(pack,)))
    print(shelf.number, flush=True)
"""


def test_what_was_told_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "portal.db"
    told = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        shelf = Shelf(path)
        last = shelf.repository.cursor.number
        assert last >= told
        assert shelf.numbers() == list(range(1, last + 1))
        assert shelf.numbers(EXISTS_action=None) == list(range(1, last + 1))
        shelf.close()
    shelf = Shelf(path)
    shelf.number = last
    shelf.add(object_event(event_time=START - timedelta(days=1)))
    assert shelf.numbers()[-1] == last + 1
    shelf.close()
