"""Packages outside the function: layers and the SDK directory, for require and for import."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]

IMPORTER = "import { source } from '@aws-sdk/client-s3';\nexport const handler = async () => source"
REQUIRER = "const { source } = require('@aws-sdk/client-s3');\nexports.handler = async () => source"


def install(directory: Path, name: str, source: str) -> Path:
    """Put a package, of both module styles, into a node_modules directory."""
    package = directory / name
    package.mkdir(parents=True)
    exports = {".": {"import": "./index.mjs", "require": "./index.cjs"}}
    (package / "package.json").write_text(json.dumps({"name": name, "exports": exports}))
    (package / "index.cjs").write_text(f"exports.source = 'require {source}'")
    (package / "index.mjs").write_text(f"export const source = 'import {source}'")
    return directory


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    """A directory with the SDK."""
    return install(tmp_path / "runtime/node_modules", "@aws-sdk/client-s3", "sdk")


@pytest.fixture
def can_import(version: tuple[int, ...]) -> None:
    """Skips where Node.js offers no way to say where import looks."""
    if version < (18, 19) or (19, 0) <= version < (20, 6):
        pytest.skip("this Node.js has no module.register")


def test_require_finds_the_sdk(start: Start, sdk: Path) -> None:
    assert start(REQUIRER, sdk_directories=[sdk]).result() == "require sdk"


@pytest.mark.usefixtures("can_import")
def test_import_finds_the_sdk(start: Start, sdk: Path) -> None:
    session = start({"index.mjs": IMPORTER}, sdk_directories=[sdk])
    assert session.result() == "import sdk"
    assert session.lines() == []  # Node.js has nothing to warn of


@pytest.mark.usefixtures("can_import")
def test_an_imported_file_finds_the_sdk(start: Start, sdk: Path) -> None:
    files = {"index.mjs": "export { handler } from './app.mjs'", "app.mjs": IMPORTER}
    assert start(files, sdk_directories=[sdk]).result() == "import sdk"


@pytest.mark.usefixtures("can_import")
def test_a_dynamic_import_finds_the_sdk(start: Start, sdk: Path) -> None:
    code = "const name = '@aws-sdk/client-s3';\nexport const handler = async () => (await import(name)).source"
    assert start({"index.mjs": code}, sdk_directories=[sdk]).result() == "import sdk"


def test_a_dynamic_import_of_commonjs_finds_the_sdk(start: Start, version: tuple[int, ...], sdk: Path) -> None:
    if version < (22, 15):
        pytest.skip("this Node.js has no module.registerHooks")
    code = "exports.handler = async () => (await import('@aws-sdk/client-s3')).source"
    assert start(code, sdk_directories=[sdk]).result() == "import sdk"


def test_layers_come_before_the_sdk_and_the_function_before_both(start: Start, sdk: Path, tmp_path: Path) -> None:
    layer = install(tmp_path / "opt/nodejs/node_modules", "@aws-sdk/client-s3", "layer")
    options = {"env": {"NODE_PATH": f"{tmp_path}/absent/node_modules:{layer}"}, "sdk_directories": [sdk]}
    assert start(REQUIRER, **options).result() == "require layer"
    install(tmp_path / "task/node_modules", "@aws-sdk/client-s3", "function")
    assert start(REQUIRER, **options).result() == "require function"


@pytest.mark.usefixtures("can_import")
def test_import_looks_in_the_same_order(start: Start, sdk: Path, tmp_path: Path) -> None:
    layer = install(tmp_path / "opt/nodejs/node_modules", "@aws-sdk/client-s3", "layer")
    options = {"env": {"NODE_PATH": f"{tmp_path}/absent/node_modules:{layer}"}, "sdk_directories": [sdk]}
    assert start({"index.mjs": IMPORTER}, **options).result() == "import layer"
    install(tmp_path / "task/node_modules", "@aws-sdk/client-s3", "function")
    assert start({"index.mjs": IMPORTER}, **options).result() == "import function"


def test_import_finds_a_directory_above_the_function_in_every_version(start: Start, tmp_path: Path) -> None:
    above = install(tmp_path / "node_modules", "@aws-sdk/client-s3", "above")
    assert start({"index.mjs": IMPORTER}, sdk_directories=[above]).result() == "import above"


def test_node_path_names_the_sdk(start: Start, sdk: Path) -> None:
    session = start(
        "exports.handler = async () => process.env.NODE_PATH",
        env={"NODE_PATH": "/opt/nodejs/node_modules"},
        sdk_directories=[sdk],
    )
    assert session.result() == f"/opt/nodejs/node_modules:{sdk}"


def test_packages_of_layers_are_found(start: Start, version: tuple[int, ...], sdk: Path, tmp_path: Path) -> None:
    layers = {"env": {"_LAMBDAD_LAYERS": str(tmp_path / "opt")}, "sdk_directories": [sdk]}
    install(tmp_path / "opt/nodejs/node_modules", "@aws-sdk/client-s3", "layer")
    assert start(REQUIRER, **layers).result() == "require layer"
    install(tmp_path / f"opt/nodejs/node{version[0]}/node_modules", "@aws-sdk/client-s3", "layer of this version")
    assert start(REQUIRER, **layers).result() == "require layer of this version"


@pytest.mark.usefixtures("can_import")
def test_import_finds_packages_of_layers(start: Start, sdk: Path, tmp_path: Path) -> None:
    install(tmp_path / "opt/nodejs/node_modules", "@aws-sdk/client-s3", "layer")
    layers = {"env": {"_LAMBDAD_LAYERS": str(tmp_path / "opt")}, "sdk_directories": [sdk]}
    assert start({"index.mjs": IMPORTER}, **layers).result() == "import layer"


def test_without_a_node_path_of_its_own_a_function_finds_that_of_lambda(
    start: Start, version: tuple[int, ...], sdk: Path, tmp_path: Path
) -> None:
    code = "exports.handler = async () => [process.env.NODE_PATH, process.env._LAMBDAD_LAYERS ?? null]"
    env = {"LAMBDA_RUNTIME_DIR": "/var/runtime", "_LAMBDAD_LAYERS": "/l"}
    for given, layers in ((env, "/l"), ({**env, "_LAMBDAD_LAYERS": "", "NODE_PATH": ""}, "/opt")):
        own = f"{layers}/nodejs/node{version[0]}/node_modules:{layers}/nodejs/node_modules:/var/runtime/node_modules"
        found = start(code, env=given, sdk_directories=[sdk]).result()
        assert found == [f"{own}:{sdk}:/var/runtime:{tmp_path}/task", None]


@pytest.mark.usefixtures("can_import")
def test_a_package_that_is_nowhere(start: Start, sdk: Path) -> None:
    session = start({"index.mjs": "import 'absent'"}, sdk_directories=[sdk])
    document = session.init_error()
    assert document["errorType"] == "Runtime.ImportModuleError"
    assert "Cannot find package 'absent' imported from" in document["errorMessage"]


@pytest.mark.parametrize(
    ("code", "needs_hooks"),
    [
        ("import { readFile } from 'fs';\nimport os from 'node:os';", False),
        ("import { readFile } from 'fs';\nimport './app.mjs';", True),
        ("const name = 'os';\nawait import(name);", True),
        ("import /* by */ os from /* name */ 'os';", True),
    ],
)
def test_the_thread_of_the_hooks_is_started_only_if_it_can_be_needed(
    start: Start, version: tuple[int, ...], sdk: Path, code: str, needs_hooks: bool
) -> None:
    if not (18, 19) <= version < (22, 15) or (19, 0) <= version < (20, 6):
        pytest.skip("this Node.js runs no hooks in a thread")

    def count_threads(**options: object) -> int:
        session = start({"index.mjs": f"{code}\nexport const handler = async () => 1", "app.mjs": ""}, **options)
        assert session.result() == 1
        return len(os.listdir(f"/proc/{session.process.pid}/task"))

    assert (count_threads(sdk_directories=[sdk]) > count_threads()) == needs_hooks
