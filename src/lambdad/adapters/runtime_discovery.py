"""Finding the interpreters of this machine: where the usual tools put them, checked by running each once.

Only real programs count. A shim of pyenv or asdf is a script or a launcher that takes 100 ms and more to find out what
to run; what it would run is found where it is installed instead. Nothing is looked for before the first question, and
what an interpreter said of itself is remembered in a file by its path, size and time of change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lambdad.adapters.runtime_places import Candidate, candidates
from lambdad.adapters.runtime_sdk import RuntimeSdks
from lambdad.domain import runtimes
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.runtimes import Language, Runtime, Version
from lambdad.domain.settings import Settings
from lambdad.ports.runtimes import InstalledRuntime

_RUN_TIMEOUT_S = 20
_RUN_AT_ONCE = 4
_SDK_REMEMBERED_S = 5.0
_LOOK_AGAIN_S = 5.0
"""So long the newest interpreter is taken to be that still; then it is looked for, beside what goes on."""

_PYTHON_SAYS = (
    "import sys; t = sys.implementation.name == 'cpython' and 't' not in getattr(sys, 'abiflags', '');"
    "print('.'.join(map(str, sys.version_info[:3])) if t else sys.implementation.name)"
)
_QUESTIONS = {
    Language.PYTHON: ("-I", "-S", "-c", _PYTHON_SAYS),
    Language.NODEJS: ("--version",),
}


@dataclass(frozen=True, slots=True)
class _Interpreter:
    candidate: Candidate
    version: Version


def runtimes_dir_of(settings: Settings, data_dir: Path) -> Path:
    """Where `lambdad runtimes add` installs."""
    return Path(settings.runtimes_dir).expanduser().absolute() if settings.runtimes_dir else data_dir / "runtimes"


class RuntimeDiscovery:
    """The runtimes of this machine.

    `environ` is the environment to look in (PATH, PYENV_ROOT, NVM_DIR, ...), `configured` are files and directories
    that the user names, which win over all others of the same version. With `allow_nearest`, a runtime that is not here
    is stood in for by the nearest version of its language, and the answer says so in `is_exact`.
    """

    def __init__(
        self,
        data_dir: Path,
        runtimes_dir: Path,
        environ: Mapping[str, str],
        configured: Sequence[Path] = (),
        allow_nearest: bool = False,
    ) -> None:
        self.sdks = RuntimeSdks(data_dir, runtimes_dir)
        self._runtimes_dir = runtimes_dir
        self._environ = environ
        self._configured = configured
        self._allow_nearest = allow_nearest
        self._known = _KnownVersions(data_dir / "interpreters.json")
        self._found: dict[str, tuple[InstalledRuntime, os.stat_result]] = {}
        self._sdks_seen: dict[str, tuple[tuple[Path, ...], float]] = {}
        self._turns = asyncio.Semaphore(_RUN_AT_ONCE)
        self._looking: dict[str, asyncio.Lock] = {}
        self._looked: dict[str, float] = {}
        self._renewals: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, settings: Settings, data_dir: Path, notes_dir: Path | None = None) -> RuntimeDiscovery:
        """As the settings have it; `notes_dir` is for those who may not write to the data directory."""
        configured = [Path(place).expanduser() for place in settings.runtime_path.split(os.pathsep) if place]
        return cls(
            notes_dir or data_dir,
            runtimes_dir_of(settings, data_dir),
            os.environ,
            configured,
            allow_nearest=settings.allow_nearest_runtime,
        )

    async def find(self, name: str) -> InstalledRuntime | None:
        """What runs functions of this identifier here; None when nothing does.

        An answer is kept while its program stays as it is, but for the SDK, which can come later. A newer interpreter
        is looked for beside that, every few seconds in which anybody asks: whoever asks then need not wait. What is not
        found is looked for again each time. Raises InvalidParameterValueException for what lambdad does not run.
        """
        runtime = runtimes.supported(name)
        if runtime.language is Language.PROVIDED:
            return InstalledRuntime(name, runtime.language, (), None, "the function's own")
        async with self._looking.setdefault(name, asyncio.Lock()):
            found = self._still_there(name) or await self._look(runtime)
        if found is None:
            return None
        if time.monotonic() - self._looked.get(name, -math.inf) > _LOOK_AGAIN_S:
            self._looked[name] = time.monotonic()
            renewal = asyncio.get_running_loop().create_task(self._renew(runtime))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
        return replace(found, sdk_dirs=await self._sdk_dirs(found))

    async def _renew(self, runtime: Runtime) -> None:
        async with self._looking[runtime.name]:
            with contextlib.suppress(OSError):  # it was uninstalled while it was looked at
                await self._look(runtime)

    async def find_version(self, name: str, version: Version) -> InstalledRuntime | None:
        """As `find`, for one version of the interpreter and no other."""
        runtime = runtimes.supported(name)
        if runtime.language is Language.PROVIDED or not (runtime.matches(version) or self._allow_nearest):
            return None
        key = f"{name} {version}"
        async with self._looking.setdefault(key, asyncio.Lock()):
            found = self._still_there(key)
            if found is None:
                possible = await asyncio.to_thread(self._candidates, runtime.language)
                verified = await self._verified(c for c in possible if self._allow_nearest or _may_be(c, runtime))
                exact = next((each for each in verified if each.version == version), None)
                if exact is None:
                    return None
                found = self._remember(key, runtime, exact)
        return replace(found, sdk_dirs=await self._sdk_dirs(found))

    async def _sdk_dirs(self, runtime: InstalledRuntime) -> tuple[Path, ...]:
        """Where its SDK is; looked for again after a while, as it can be installed later."""
        now = time.monotonic()
        dirs, seen = self._sdks_seen.get(runtime.name, ((), -math.inf))
        if now - seen > _SDK_REMEMBERED_S:
            dirs = await asyncio.to_thread(self.sdks.dirs, runtime.language, runtime.version)
            self._sdks_seen[runtime.name] = (dirs, now)
        return dirs

    async def require(self, name: str) -> InstalledRuntime:
        """As `find`, with an InvalidParameterValueException that says how to install what is not here."""
        found = await self.find(name)
        if found is None:
            raise InvalidParameterValueException(runtimes.not_installed(name))
        return found

    async def all(self) -> list[InstalledRuntime]:
        """Every runtime that is here exactly, in the order of the catalog."""
        found = await asyncio.gather(*(self.find(runtime.name) for runtime in runtimes.SUPPORTED))
        return [each for each in found if each is not None and each.is_exact]

    def forget(self) -> None:
        """Look again at the next question, for a newer patch version or an interpreter that is preferred."""
        self._found.clear()
        self._sdks_seen.clear()

    def _still_there(self, name: str) -> InstalledRuntime | None:
        found, seen = self._found.get(name, (None, None))
        if found is None or seen is None or found.executable is None:
            return None
        try:
            now = found.executable.stat()
        except OSError:
            return None
        same = (now.st_mtime_ns, now.st_size, now.st_ino) == (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        return found if same else None

    async def _look(self, runtime: Runtime) -> InstalledRuntime | None:
        possible = await asyncio.to_thread(self._candidates, runtime.language)
        chosen = _newest(await self._verified(c for c in possible if _may_be(c, runtime)), runtime)
        if chosen is None and self._allow_nearest:
            chosen = _nearest(await self._verified(iter(possible)), runtime)
        if chosen is None:
            return None
        self._looked[runtime.name] = time.monotonic()
        return self._remember(runtime.name, runtime, chosen)

    def _remember(self, key: str, runtime: Runtime, chosen: _Interpreter) -> InstalledRuntime:
        found = InstalledRuntime(
            runtime.name,
            runtime.language,
            chosen.version,
            chosen.candidate.executable,
            chosen.candidate.source,
            is_exact=runtime.matches(chosen.version),
        )
        self._found[key] = (found, chosen.candidate.executable.stat())
        return found

    def _candidates(self, language: Language) -> list[Candidate]:
        return list(candidates(language, self._runtimes_dir, self._environ, self._configured))

    async def _verified(self, possible: Iterator[Candidate]) -> list[_Interpreter]:
        """The candidates that work, with the version each says it is; in the order given."""
        asked = list(possible)
        versions = await asyncio.gather(*(self._version(candidate) for candidate in asked))
        self._known.save()
        return [_Interpreter(c, v) for c, v in zip(asked, versions, strict=True) if v is not None]

    async def _version(self, candidate: Candidate) -> Version | None:
        try:
            known = self._known.get(candidate.executable)
            if known is None:
                async with self._turns:
                    known = await _ask(candidate)
                if known is not None:
                    self._known.put(candidate.executable, known)
        except OSError:  # uninstalled while it was asked
            return None
        return runtimes.version_of(known or "")


async def _ask(candidate: Candidate) -> str | None:
    """What an interpreter prints as its version; None when it does not work (perhaps only today)."""
    try:
        process = await asyncio.create_subprocess_exec(
            candidate.executable,
            *_QUESTIONS[candidate.language],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
    except OSError:  # made for another processor, or not ours to run
        return None
    try:
        async with asyncio.timeout(_RUN_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace").strip() if process.returncode == 0 else None


def _may_be(candidate: Candidate, runtime: Runtime) -> bool:
    """Whether the program's name leaves it open that it is this version: `python3.12` is no Python 3.11."""
    named = re.fullmatch(r"python(\d+)\.(\d+)", candidate.executable.name)
    return not named or runtime.matches(tuple(map(int, named.groups())))


def _newest(found: list[_Interpreter], runtime: Runtime) -> _Interpreter | None:
    """The newest patch of the exact version; where two are the same, the one whose place comes first."""
    exact = [each for each in found if runtime.matches(each.version)]
    return max(exact, key=lambda each: (each.candidate.is_configured, each.version), default=None)


def _nearest(found: list[_Interpreter], runtime: Runtime) -> _Interpreter | None:
    """The fewest releases away, the newer of two that are as near, and its newest patch."""
    return max(found, key=lambda each: (-runtime.distance(each.version), each.version), default=None)


class _KnownVersions:
    """What programs said their version is, in a file. Losing it costs one run of each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: dict[str, dict[str, str | int]] | None = None
        self._changed = False

    def get(self, executable: Path) -> str | None:
        known = self._loaded().get(str(executable))
        if known is None or not known.items() >= _identity(executable).items():
            return None
        return str(known["version"])

    def put(self, executable: Path, version: str) -> None:
        self._loaded()[str(executable)] = {**_identity(executable), "version": version}
        self._changed = True

    def save(self) -> None:
        """Write the file if anything is new, without the programs that are gone; on a full disk, another time."""
        if not self._changed:
            return
        here = {path: known for path, known in self._loaded().items() if os.path.exists(path)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        except OSError:
            return
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(here, file, indent=1, sort_keys=True)
            os.replace(name, self._path)
            self._changed = False
        except OSError:
            os.unlink(name)

    def _loaded(self) -> dict[str, dict[str, str | int]]:
        if self._versions is None:
            try:
                self._versions = {path: dict(known) for path, known in json.loads(self._path.read_bytes()).items()}
            except (OSError, ValueError, TypeError, AttributeError):  # not there, or not what was written
                self._versions = {}
        return self._versions


def _identity(executable: Path) -> dict[str, str | int]:
    status = executable.stat()
    return {"mtime_ns": status.st_mtime_ns, "size_bytes": status.st_size}
