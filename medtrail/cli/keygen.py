"""``medtrail keygen``: an organisation's folder with new keys, enrolled by the authority of --dir."""

from pathlib import Path

from rich.console import Console

from medtrail.cli.main import Globals
from medtrail.cli.network_file import check_name
from medtrail.cli.setup import make_whole
from medtrail.errors import ConflictError, MalformedError
from medtrail.event import Role
from medtrail.gs1 import Gln
from medtrail.runtime.folder import AuthorityFolder, OrganisationFolder, Profile, create_organisation


def run_keygen(found: Globals, *, name: str, display_name: str, gln: str, role: str, out: Path | None) -> None:
    """Create the folder, by default where `medtrail up` looks for it; print the public keys.

    Raises:
        MalformedError: A name, GLN or role of wrong form.
        ConflictError: The folder exists, or --dir holds no authority.
    """
    check_name(name, field="NAME")
    if role not in {item.value for item in Role}:
        message = f"expected one of {', '.join(Role)}, got {role!r}"
        raise MalformedError(message, code="ROLE_UNKNOWN", field="--role")
    authority_path = found.folder / "authority"
    if not authority_path.exists():
        message = f"{found.folder} holds no authority: run `medtrail up` there once"
        raise ConflictError(message, code="AUTHORITY_MISSING", field="--dir")
    target = out or found.folder / "orgs" / name
    if target.exists():
        raise ConflictError(f"{target} exists; keys are never overwritten", code="FOLDER_EXISTS", field="--out")
    profile = Profile(name, display_name or name, _gln(gln), roles=frozenset({Role(role)}))
    authority = AuthorityFolder(authority_path)
    make_whole(target, lambda path: create_organisation(path, profile, authority=authority))
    folder = OrganisationFolder(target)
    document = {
        "folder": str(target),
        "gln": gln,
        "signing_key": folder.signing_key().key_id,
        "sealing_key": bytes(folder.sealing_key().public_key).hex(),
        "nats_user_key": folder.nats_user_key(),
    }

    def draw(console: Console) -> None:
        for key, value in document.items():
            console.print(f"{key:<14} {value}", markup=False, soft_wrap=True)
        console.print(f"name it in network.toml with the same facts; the next start enrols it: {name}", markup=False)

    found.output.answer(document, draw)


def _gln(text: str) -> Gln:
    try:
        return Gln(text)
    except MalformedError as error:
        raise MalformedError(error.message, code=error.code, field="--gln") from error
