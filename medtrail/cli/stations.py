"""Stations of an embedded network, as the supervisor runs them."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medtrail.cli.network import OrganisationAddress, RunningNetwork, StationAddress
from medtrail.cli.ready import HOST, grpc_ready
from medtrail.cli.setup import NetworkFolders
from medtrail.cli.supervisor import Program
from medtrail.runtime.folder import StationFolder

STATION_PREFIX = "station/"


def port_names(folders: NetworkFolders) -> dict[str, str]:
    """Return the name of each station's port in ports.json, by the station's."""
    return {full_name(item): f"{STATION_PREFIX}{full_name(item)}" for item in folders.stations}


def full_name(station: StationFolder) -> str:
    """Return a station's name among those of all organisations."""
    return f"{station.profile.name}/{station.station}"


def with_stations(network: RunningNetwork, folders: NetworkFolders, ports: Mapping[str, int]) -> RunningNetwork:
    """Return a network with its stations."""
    stations = tuple(
        StationAddress(item.station, item.profile.name, f"{HOST}:{ports[full_name(item)]}", str(item.path))
        for item in folders.stations
    )
    return replace(network, stations=stations)


def station_environment(
    item: StationAddress, owner: OrganisationAddress, network: RunningNetwork, data: Path
) -> dict[str, str]:
    """Return the settings of a station's process."""
    return {
        "MEDTRAIL_STATION_DIR": item.folder,
        "MEDTRAIL_STATION_DATA_DIR": str(data),
        "MEDTRAIL_STATION_SERVICE_ADDRESS": owner.address,
        "MEDTRAIL_STATION_LISTEN": item.address,
        "MEDTRAIL_STATION_LOG_VKEY": network.verifier_keys[0],
        "MEDTRAIL_STATION_AUTHORITY_KEY_ID": network.authority_key_id,
    }


def station_program(item: StationAddress, network: RunningNetwork, root: Path) -> Program:
    """Return a station as the supervisor runs it."""
    owner = network.organisation(item.organisation)
    data = root / "stations" / item.organisation / item.name
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = (sys.executable, "-m", "services.station")
    folder = StationFolder(Path(item.folder))
    return Program(
        f"{item.organisation}-{item.name}-station",
        command,
        station_environment(item, owner, network, data),
        lambda: grpc_ready(folder.ca_certificate(), item.address, folder.server),
    )
