"""The faults, by name."""

from __future__ import annotations

from . import tier
from .cut import cut, cut_wire
from .disk import disk
from .forked import fork
from .kill import kill
from .pause import pause
from .pool import pool
from .prepared import prepared
from .prune import prune
from .restart import restart
from .restore import restore
from .stage import Fault

_SQLITE = ("sqlite-wal", "sqlite-journal")
_SERVERS = ("postgresql", "mariadb")
_ALL = _SQLITE + _SERVERS

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill", _ALL, kill, counted=("kill", "die")),
        Fault("pause", _ALL, pause, counted=("pause",)),
        Fault("cut", _SERVERS, cut, counted=("cut",)),
        Fault("cut-wire", _SERVERS, cut_wire, counted=("cut-wire",)),
        Fault("restart", _SERVERS, restart, server={}, counted=("restart",)),
        Fault("pool", _ALL, pool, counted=("exhaust",)),
        Fault("disk", _SQLITE, disk, counted=("full",)),
        Fault("fork", _SERVERS, fork, counted=("fork",)),
        Fault(
            "prepared",
            _SERVERS,
            prepared,
            server={"max_prepared_transactions": "20"},
            counted=("finish",),
        ),
        Fault("prune", _ALL, prune, counted=("prune",)),
        Fault("restore", _ALL, restore, counted=("restore",)),
        Fault("tier-down", _ALL, tier.down, counted=("tier-down",)),
        Fault("tier-hang", _ALL, tier.hang, counted=("tier-hang",)),
        Fault("tier-flush", _ALL, tier.flush, counted=("tier-flush",)),
        Fault("tier-full", _ALL, tier.full, counted=("tier-full",)),
        Fault("tier-cut", _ALL, tier.cut_tier, counted=("tier-cut",)),
        Fault("tier-forge", _ALL, tier.forge, counted=("tier-forge",)),
    )
}
