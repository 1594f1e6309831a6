"""`kill -9` in the middle of many writes: what was acknowledged is there, and nothing is there by half.

Each client owns some functions and does one random thing after another to them, noting what the daemon acknowledged.
When the daemon is killed each client has at most one request whose fate it does not know: after the restart that
request has happened whole or not at all, and everything else is as noted.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import random
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from daemons import ROLE, Daemon, zip_of
from faults.calm import assert_calm
from faults.processes import eventually

CLIENTS = 4
FUNCTIONS_EACH = 4
WRITES = 200
CODE_VARIANTS = 6
Functions = dict[str, dict[str, Any]]
"""What a client knows: of each function its code, description, memory, tags, reservation, versions and aliases."""


def package(variant: int) -> bytes:
    filler = random.Random(variant).randbytes(20_000)
    return zip_of({"app.py": f"def handler(event, context):\n    return {variant}\n", "filler.bin": filler})


PACKAGES = [package(variant) for variant in range(CODE_VARIANTS)]


@dataclass
class Client:
    """One client and its model of what it owns."""

    number: int
    api: Any
    chance: random.Random
    enough: threading.Semaphore
    known: Functions = field(default_factory=dict)
    undecided: Functions | None = None
    """What there would be if the request that got no answer has happened."""
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Write until the daemon is gone."""
        while True:
            name = f"crash-{self.number}-{self.chance.randrange(FUNCTIONS_EACH)}"
            after = copy.deepcopy(self.known)
            step = self._step(name, after)
            self.undecided = after
            try:
                getattr(self.api, step[0])(FunctionName=name, **step[1])
            except ClientError as error:
                self.wrong.append(f"{step[0]} {name}: {error}")
                return
            except BotoCoreError:
                return
            self.known, self.undecided = after, None
            self.acknowledged += 1
            self.enough.release()

    def _step(self, name: str, after: Functions) -> tuple[str, dict[str, Any]]:
        """A random request, with its effect put into `after`."""
        if name not in after or after[name]["deleted"]:
            return self._create(name, after)
        function = after[name]
        steps = [self._code, self._configuration, self._publish, self._alias, self._tags, self._reserve, self._delete]
        step, parameters = self.chance.choices(steps, (4, 4, 4, 4, 2, 2, 1))[0](function)
        if step == "delete_function" and not parameters:
            # What remains is the number of the next version: numbers are not used again.
            function["deleted"] = True
        if step == "tag_resource":
            return "add_tags", parameters
        return step, parameters

    def _create(self, name: str, after: Functions) -> tuple[str, dict[str, Any]]:
        variant = self.chance.randrange(CODE_VARIANTS)
        after[name] = {
            "deleted": False,
            "code": variant,
            "description": "new",
            "memory": 128,
            "tags": {},
            "reserved": None,
            "versions": {},
            "next": after[name]["next"] if name in after else 1,
            "aliases": {},
        }
        return "create_function", {
            "Runtime": "python3.11",
            "Role": ROLE,
            "Handler": "app.handler",
            "Description": "new",
            "Code": {"ZipFile": PACKAGES[variant]},
        }

    def _code(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        function["code"] = self.chance.randrange(CODE_VARIANTS)
        return "update_function_code", {"ZipFile": PACKAGES[function["code"]]}

    def _configuration(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        function["description"] = f"{self.chance.getrandbits(64):x}"
        function["memory"] = self.chance.randrange(128, 1024)
        return "update_function_configuration", {
            "Description": function["description"],
            "MemorySize": function["memory"],
        }

    def _publish(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        last = function["versions"].get(str(function["next"] - 1))
        content = [function["code"], function["memory"]]
        if last is None or last != content:
            function["versions"][str(function["next"])] = content
            function["next"] += 1
        return "publish_version", {}

    def _alias(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not function["versions"]:
            return self._publish(function)
        alias = self.chance.choice(["live", "next", "old"])
        version = self.chance.choice(sorted(function["versions"]))
        step = "update_alias" if alias in function["aliases"] else "create_alias"
        if step == "update_alias" and self.chance.random() < 0.3:
            del function["aliases"][alias]
            return "delete_alias", {"Name": alias}
        function["aliases"][alias] = version
        return step, {"Name": alias, "FunctionVersion": version}

    def _tags(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        key, value = f"key-{self.chance.randrange(5)}", f"{self.chance.getrandbits(32):x}"
        function["tags"][key] = value
        return "tag_resource", {"Tags": {key: value}}

    def _reserve(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if function["reserved"] is not None and self.chance.random() < 0.5:
            function["reserved"] = None
            return "delete_function_concurrency", {}
        function["reserved"] = self.chance.randrange(0, 20)
        return "put_function_concurrency", {"ReservedConcurrentExecutions": function["reserved"]}

    def _delete(self, function: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        free = sorted(set(function["versions"]) - set(function["aliases"].values()))
        # The newest stays: whether the next publication repeats it depends on it.
        free = [version for version in free if version != str(function["next"] - 1)]
        if free and self.chance.random() < 0.7:
            del function["versions"][free[0]]
            return "delete_function", {"Qualifier": free[0]}
        return "delete_function", {}


class Api:
    """A boto3 client whose tag operation takes a function's name, as the others do."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def add_tags(self, FunctionName: str, Tags: dict[str, str]) -> None:
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{FunctionName}"
        self._client.tag_resource(Resource=arn, Tags=Tags)


def found(api: Any) -> Functions:
    """What the daemon has, in the form of the model."""
    by_digest = {hashlib.sha256(content).digest().hex(): variant for variant, content in enumerate(PACKAGES)}
    functions: Functions = {}
    for page in api.get_paginator("list_functions").paginate():
        for listed in page["Functions"]:
            name = listed["FunctionName"]
            details = api.get_function(FunctionName=name)
            versions = {
                version["Version"]: [by_digest[_hex(version["CodeSha256"])], version["MemorySize"]]
                for part in api.get_paginator("list_versions_by_function").paginate(FunctionName=name)
                for version in part["Versions"]
            }
            latest = versions.pop("$LATEST")
            functions[name] = {
                "code": latest[0],
                "description": listed["Description"],
                "memory": latest[1],
                "tags": details.get("Tags", {}),
                "reserved": details.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
                "versions": versions,
                "aliases": {
                    alias["Name"]: alias["FunctionVersion"]
                    for part in api.get_paginator("list_aliases").paginate(FunctionName=name)
                    for alias in part["Aliases"]
                },
            }
    return functions


def _hex(base64_digest: str) -> str:
    return base64.b64decode(base64_digest).hex()


def visible(functions: Functions) -> Functions:
    """What of a model the API shows."""
    return {
        name: {key: value for key, value in function.items() if key not in ("next", "deleted")}
        for name, function in functions.items()
        if not function["deleted"]
    }


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_a_crash_and_nothing_is_there_by_half(tmp_path, seed):
    chance = random.Random(seed)
    daemon = Daemon(tmp_path / "data").start()
    try:
        clients = crash_in_the_middle(daemon, chance, chance.randrange(WRITES // 2, WRITES))
        assert [wrong for client in clients for wrong in client.wrong] == []
        daemon.start()
        there = found(daemon.client("lambda"))
        for client in clients:
            own = {name: value for name, value in there.items() if name.startswith(f"crash-{client.number}-")}
            possible = [client.known] if client.undecided is None else [client.known, client.undecided]
            assert own in [visible(state) for state in possible]
        check_integrity(daemon.data_dir)
        check_every_version_runs(daemon, there)
        assert eventually(lambda: leftovers(daemon.data_dir) == [])
        assert_calm(daemon)
    finally:
        daemon.stop()


def crash_in_the_middle(daemon: Daemon, chance: random.Random, writes: int) -> list[Client]:
    """Have several clients write and kill the daemon when it has acknowledged so many writes."""
    enough = threading.Semaphore(0)
    clients = [
        Client(number, Api(daemon.client("lambda")), random.Random(chance.random()), enough)
        for number in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(writes):
        assert enough.acquire(timeout=30), [client.wrong for client in clients]
    daemon.kill()
    for thread in threads:
        thread.join(30)
    return clients


def check_integrity(data_dir: Path) -> None:
    """Nothing refers to what is not there, and every blob is what its name says."""
    blobs = {path.name: path for path in (data_dir / "blobs").glob("[0-9a-f][0-9a-f]/*")}
    for name, path in blobs.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
    with sqlite3.connect(f"file:{data_dir / 'lambdad.db'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        used = {digest for (digest,) in database.execute("SELECT code_sha256 FROM versions")}
        assert used <= blobs.keys()
        functions = set(database.execute("SELECT account_id, region, name FROM functions"))
        latest = set(database.execute("SELECT account_id, region, name FROM versions WHERE number = 0"))
        assert functions == latest
        of_versions = set(database.execute("SELECT DISTINCT account_id, region, name FROM versions"))
        assert of_versions == functions
        assert set(database.execute("SELECT DISTINCT account_id, region, name FROM aliases")) <= functions


def check_every_version_runs(daemon: Daemon, there: Functions) -> None:
    """The code of each is whole, and aliases lead to it; one of each package is enough."""
    client = daemon.client("lambda")
    tried: set[int] = set()
    for name, function in there.items():
        for qualifier, code in ("$LATEST", function["code"]), *((a, None) for a in function["aliases"]):
            expected = function["versions"][function["aliases"][qualifier]][0] if code is None else code
            if expected in tried or function["reserved"] == 0:
                continue
            tried.add(expected)
            answer = client.invoke(FunctionName=name, Qualifier=qualifier)
            assert answer["Payload"].read() == b"%d" % expected


def leftovers(data_dir: Path) -> list[str]:
    """Files that nothing refers to: packages of functions that never were, and what was half written."""
    with sqlite3.connect(f"file:{data_dir / 'lambdad.db'}?mode=ro", uri=True) as database:
        used = {digest for (digest,) in database.execute("SELECT code_sha256 FROM versions")}
    files = [path.name for path in (data_dir / "blobs").glob("[0-9a-f][0-9a-f]/*")]
    files += [path.name for path in (data_dir / "unpacked").iterdir()]
    return [name for name in files if name not in used] + [p.name for p in (data_dir / "blobs/unfinished").iterdir()]


def test_a_crash_loop_loses_nothing(tmp_path):
    """Killed again while it is still starting and collecting what the last crash left."""
    daemon = Daemon(tmp_path / "data")
    expected: dict[str, str] = {}
    for number in range(5):
        daemon.start()
        api = daemon.client("lambda")
        assert {f["FunctionName"]: f["Description"] for f in api.list_functions()["Functions"]} == expected
        created = api.create_function(
            FunctionName=f"loop-{number}",
            Runtime="python3.11",
            Role=ROLE,
            Handler="app.handler",
            Description=str(number),
            Code={"ZipFile": PACKAGES[number]},
        )
        expected[created["FunctionName"]] = created["Description"]
        daemon.kill()
    with daemon:
        check_integrity(daemon.data_dir)
        assert_calm(daemon)
