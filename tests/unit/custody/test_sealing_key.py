"""What partners seal to us is opened with a key that is read when it is wanted."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medtrail.errors import UnavailableError, VerificationError
from medtrail.runtime.folder import OrganisationFolder
from medtrail.terms import salted, seal
from services.custody.bootstrap import _unseal

if TYPE_CHECKING:
    from tests.conftest import Network


def test_a_key_that_cannot_be_read_keeps_letters_waiting(network: "Network", tmp_path: Path) -> None:
    shutil.copytree(network["maker"].path, tmp_path / "maker")
    folder = OrganisationFolder(tmp_path / "maker")
    terms = salted(b"terms")
    sealed = seal(terms, bytes(folder.sealing_key().public_key))
    assert _unseal(folder, sealed) == terms
    with pytest.raises(VerificationError):
        _unseal(folder, sealed[:-1])
    (folder.path / "sealing.key").chmod(0o644)
    with pytest.raises(UnavailableError) as caught:
        _unseal(folder, sealed)
    assert caught.value.code == "KEY_FILE_EXPOSED"
