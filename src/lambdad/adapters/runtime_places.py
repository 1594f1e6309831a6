"""Where interpreters are on a machine: the directories that each installer uses, and which files there are programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambdad.domain.runtimes import Language

# The first bytes of a program: ELF, and Mach-O for one processor (both byte orders) or several.
_PROGRAM_MAGIC = {
    b"\x7fELF",
    bytes.fromhex("feedface"),
    bytes.fromhex("feedfacf"),
    bytes.fromhex("cefaedfe"),
    bytes.fromhex("cffaedfe"),
    bytes.fromhex("cafebabe"),
    bytes.fromhex("cafebabf"),
}
_NAMES = {
    Language.PYTHON: re.compile(r"[Pp]ython(3(\.\d+)?)?"),
    Language.NODEJS: re.compile(r"node(js)?"),
}
_PYTHONS = "bin/python3*"
_VENVS_FOLLOWED = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program that may be an interpreter; the path is its real one, free of links."""

    language: Language
    executable: Path
    source: str
    is_configured: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """An installer's directory: where the variable points, else the first words are under the home directory."""

    source: str
    variable: str
    defaults: tuple[str, ...]
    patterns: Mapping[Language, tuple[str, ...]]


_PLACES = (
    _Place("pyenv", "PYENV_ROOT", ("~/.pyenv",), {Language.PYTHON: (f"versions/*/{_PYTHONS}",)}),
    _Place(
        "uv",
        "UV_PYTHON_INSTALL_DIR",
        ("{data}/uv/python",),
        {Language.PYTHON: (f"*/{_PYTHONS}",)},
    ),
    _Place("nvm", "NVM_DIR", ("~/.nvm",), {Language.NODEJS: ("versions/node/*/bin/node",)}),
    _Place(
        "fnm",
        "FNM_DIR",
        ("{data}/fnm", "~/.fnm", "~/Library/Application Support/fnm"),
        {Language.NODEJS: ("node-versions/*/installation/bin/node",)},
    ),
    _Place("volta", "VOLTA_HOME", ("~/.volta",), {Language.NODEJS: ("tools/image/node/*/bin/node",)}),
    _Place("nodenv", "NODENV_ROOT", ("~/.nodenv",), {Language.NODEJS: ("versions/*/bin/node",)}),
    _Place("n", "N_PREFIX", ("/usr/local",), {Language.NODEJS: ("n/versions/node/*/bin/node",)}),
    _Place(
        "asdf",
        "ASDF_DATA_DIR",
        ("~/.asdf",),
        {Language.PYTHON: (f"installs/python/*/{_PYTHONS}",), Language.NODEJS: ("installs/nodejs/*/bin/node",)},
    ),
    _Place(
        "mise",
        "MISE_DATA_DIR",
        ("{data}/mise",),
        {Language.PYTHON: (f"installs/python/*/{_PYTHONS}",), Language.NODEJS: ("installs/node/*/bin/node",)},
    ),
    _Place(
        "Homebrew",
        "HOMEBREW_PREFIX",
        ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"),
        {
            Language.PYTHON: (f"opt/python@3*/{_PYTHONS}",),
            Language.NODEJS: ("opt/node/bin/node", "opt/node@*/bin/node"),
        },
    ),
    _Place(
        "python.org",
        "",
        ("/Library/Frameworks/Python.framework",),
        {Language.PYTHON: (f"Versions/3*/{_PYTHONS}",)},
    ),
)

_OWN_PATTERNS = {
    Language.PYTHON: (f"python/*/{_PYTHONS}",),
    Language.NODEJS: ("nodejs/*/node_modules/node-*/bin/node", "nodejs/*/node_modules/node/bin/node"),
}
# What a directory that the user names may be: a bin directory, an installation, or a directory of installations.
_CONFIGURED_PATTERNS = {
    Language.PYTHON: ("python3*", _PYTHONS, f"*/{_PYTHONS}"),
    Language.NODEJS: ("node", "bin/node", "*/bin/node", "node_modules/node/bin/node", "*/node_modules/node/bin/node"),
}
_PATH_PATTERNS = {
    Language.PYTHON: ("python3*", "python"),
    # npm's `node` package holds a program of its own, beside the node that npm came with.
    Language.NODEJS: ("node", "nodejs", "../lib/node_modules/node/bin/node", "../../node/bin/node"),
}


def candidates(
    language: Language, runtimes_dir: Path, environ: Mapping[str, str], configured: Sequence[Path]
) -> Iterator[Candidate]:
    """Every program on this machine that may be an interpreter of the language, each once, the preferred first."""
    seen: set[Path] = set()
    for source, path in _paths(language, runtimes_dir, environ, configured):
        program = _program(path, language)
        if program is not None and program not in seen:
            seen.add(program)
            yield Candidate(language, program, source, is_configured=source == "configured")


def _paths(
    language: Language, runtimes_dir: Path, environ: Mapping[str, str], configured: Sequence[Path]
) -> Iterator[tuple[str, Path]]:
    for path in configured:
        if path.is_file():
            yield "configured", path
        for found in _matching(path, _CONFIGURED_PATTERNS[language]):
            yield "configured", found
    for found in _matching(runtimes_dir, _OWN_PATTERNS[language]):
        yield "lambdad", found
    for place in _PLACES:
        for root in _roots(place, environ):
            for found in _matching(root, place.patterns.get(language, ())):
                yield place.source, found
    for directory in environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(directory):
            for found in _matching(Path(directory), _PATH_PATTERNS[language]):
                yield "PATH", found


def _roots(place: _Place, environ: Mapping[str, str]) -> list[Path]:
    if place.variable and environ.get(place.variable):
        return [Path(environ[place.variable])]
    home = environ.get("HOME", "")
    data = environ.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else "")
    texts = [text.replace("~", home, 1) if home else text for text in place.defaults]
    return [
        Path(text.format(data=data)) for text in texts if not text.startswith("~") and (data or "{data}" not in text)
    ]


def _matching(root: Path, patterns: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        try:
            found += sorted(root.glob(pattern))
        except OSError:  # a directory that may not be read has nothing for us
            continue
    return found


def _program(path: Path, language: Language) -> Path | None:
    """The real program behind a path; None for scripts, launchers of other names, and what may not be run.

    A virtual environment's interpreter is traced to the one it was made from: functions must not see its packages.
    """
    try:
        program = path.resolve(strict=True)
        for _ in range(_VENVS_FOLLOWED):
            base = _base_of_venv(program)
            if base is None:
                break
            program = base.resolve(strict=True)
        is_program = (
            _NAMES[language].fullmatch(program.name) is not None
            and os.access(program, os.X_OK)
            and _magic(program) in _PROGRAM_MAGIC
        )
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return None
    return program if is_program else None


def _magic(program: Path) -> bytes:
    with program.open("rb") as file:
        return file.read(4)


def _base_of_venv(program: Path) -> Path | None:
    """The interpreter that a copy in a virtual environment was made from, as its `pyvenv.cfg` says."""
    settings = program.parent.parent / "pyvenv.cfg"
    if not settings.is_file():
        return None
    home = re.search(r"^home\s*=\s*(.+?)\s*$", settings.read_text(errors="replace"), re.MULTILINE)
    if not home:
        return None
    names = (program.name, "python3", "python")
    return next((path for path in (Path(home[1], name) for name in names) if path.exists()), None)
