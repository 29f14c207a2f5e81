"""The configuration of supervisord: one form for the file that ships and for those made for other homes."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Final

from tagwerk.runtime.home import SOCKET_PATH_LIMIT_BYTES, Home

EXAMPLE: Final = "examples/brewhouse/plant.toml"
HERE: Final = "%(here)s"  # supervisord's word for the folder of its configuration
_FORM: Final = """\
; {title}
; Written by tagwerk.runtime.supervisord_conf: change it there.

[supervisord]
logfile={state}/supervisord.log
logfile_maxbytes=10MB
logfile_backups=1
pidfile={run}/supervisord.pid
nodaemon=false
umask=077

[unix_http_server]
file={run}/supervisord.sock
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{run}/supervisord.sock

; `supervisorctl actors`, `supervisorctl actor restart|stop|start|revive NAME`
; The home is relative to this file: supervisord does not expand its variables in this section.
[ctlplugin:tagwerk]
supervisor.ctl_factory=tagwerk.runtime.supervisor_plugin:make_plugin
home={home}

[group:node]
programs=main

; Exit 0: stopped as asked; 2: the plant file is wrong, and trying again would not help. All else is an accident.
; The node stops its actors itself, in order: supervisord signals the node's keeper alone, until its patience ends.
[program:main]
command={python} -P -m tagwerk.runtime.node_keeper --home {home_word} --plant {plant_word}
environment=OPENBLAS_NUM_THREADS="1"
startsecs=1
startretries=1000000
autorestart=unexpected
exitcodes=0,2
stopsignal=TERM
stopwaitsecs=30
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={state}/supervisord-node.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=1
"""


def default_conf() -> str:
    """Give the file that ships: home `var`, the example plant, the environment in `.venv`, all beside the file.

    supervisord's own files stand beside it, too: their folder must be there before it starts, and `var` is not.
    """
    return _FORM.format(
        title="The example plant: `supervisord -c supervisord.conf`, from anywhere.",
        state=HERE,
        run=HERE,
        home="var",
        home_word=f'"{HERE}/var"',
        plant_word=f'"{HERE}/{EXAMPLE}"',
        python=f'"{HERE}/.venv/bin/python"',
    )


def checkout() -> Path:
    """Give the folder that the shipped file stands in, if this is a checkout and no installed package."""
    import tagwerk

    return Path(tagwerk.__file__).resolve().parents[2]


def shipped_conf(home: Home) -> Path | None:
    """Give the file that ships if it is of this home, None for every other home."""
    path = checkout() / "supervisord.conf"
    return path if home.root == path.parent / "var" and path.is_file() else None


def conf_for(home: Home, plant: Path) -> Path:
    """Give the configuration that runs a plant: the shipped one if it is made for just that, else a new one.

    Args:
        home: The plant's home; its directories are made.
        plant: The plant file.
    """
    shipped = shipped_conf(home)
    if shipped is not None:
        folder = shipped.parent
        ours = Path(sys.prefix).resolve() == (folder / ".venv").resolve()
        # supervisord binds a name with its pid at the end first.
        fits = len(os.fsencode(folder / "supervisord.sock")) + len(".4194304") <= SOCKET_PATH_LIMIT_BYTES
        if ours and fits and plant.resolve() == folder / EXAMPLE:
            home.create()
            return shipped
    return write_supervisord_conf(home, plant)


def write_supervisord_conf(home: Home, plant: Path) -> Path:
    """Write `run/supervisord.conf` for another home or plant. Its directories are made.

    Args:
        home: The plant's home.
        plant: The plant file.

    Returns:
        The file, by its path on the tmpfs.
    """
    home.create()
    path = home.file("supervisord", "conf")
    text = _FORM.format(
        title=f"The plant {_escaped(str(plant))}.",
        state=_escaped(str(home.log)),
        run=_escaped(str(path.parent)),
        home=_escaped(str(home.root)),
        home_word=_word(home.root),
        plant_word=_word(plant.absolute()),
        python=_word(Path(sys.executable)),
    )
    new = path.with_suffix(".conf-new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path


def _word(path: Path) -> str:
    return _escaped(shlex.quote(str(path)))


def _escaped(text: str) -> str:
    """Keep supervisord from expanding what only looks like one of its variables."""
    return text.replace("%", "%%")
