"""`kill -9` while layers are published, taken by functions, and deleted: what was acknowledged is there, and works."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from daemons import Daemon, create_python, zip_of
from faults.processes import eventually

SEED = 11
KILLS = 4
ROUNDS_A_LIFE = 6
PATIENCE_S = 30.0
LAYERS = ("one", "two")
SOURCE = "import one, two\ndef handler(event, context): return [one.x, two.x]"


class Publisher:
    """One client that publishes a version of each layer, makes a function of them, and deletes the older versions."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {name: [] for name in LAYERS}
        self.functions: dict[str, list[int]] = {}
        self.rounds = 0

    def work(self, client: Any, begun: threading.Event) -> None:
        """Go on until the daemon dies."""
        try:
            for number in itertools.count(self.rounds):
                self._round(client, number)
                self.rounds = number + 1
                begun.set()
        except (BotoCoreError, ClientError):
            self.rounds += 1

    def _round(self, client: Any, number: int) -> None:
        arns = []
        for name in LAYERS:
            content = {"ZipFile": zip_of({f"python/{name}.py": f"x = {number}"})}
            answer = client.publish_layer_version(LayerName=name, Content=content)
            self.numbers[name].append(answer["Version"])
            arns.append(answer["LayerVersionArn"])
        create_python(client, f"f{number}", SOURCE, Layers=arns)
        self.functions[f"f{number}"] = [number, number]
        for name in LAYERS:
            client.delete_layer_version(LayerName=name, VersionNumber=self.numbers[name][-1])


def test_layers_survive_kills_and_leave_nothing_behind(tmp_path: Path) -> None:
    daemon, publisher, chance = Daemon(tmp_path / "data").start(), Publisher(), random.Random(SEED)
    try:
        for _ in range(KILLS):
            begun = threading.Event()
            client = daemon.client("lambda")
            worker = threading.Thread(target=publisher.work, args=(client, begun))
            goal = publisher.rounds + chance.randint(1, ROUNDS_A_LIFE)
            worker.start()
            assert begun.wait(PATIENCE_S)
            assert eventually(lambda goal=goal: publisher.rounds >= goal, PATIENCE_S)
            time.sleep(chance.random() * 0.02)  # into the midst of a round
            daemon.kill()
            worker.join(PATIENCE_S)
            daemon.start()
            check(daemon, publisher)
        empty(daemon)
        daemon.stop()
        daemon.start()  # what a crash has left is removed at the start
        for place in ("blobs", "unpacked"):
            assert eventually(lambda place=place: not archives(daemon.data_dir / place), PATIENCE_S), place
    finally:
        daemon.stop()


def check(daemon: Daemon, publisher: Publisher) -> None:
    """Every function that was acknowledged runs with its layers, and no number was given twice."""
    client = daemon.client("lambda")
    for name, expected in publisher.functions.items():
        answer = client.invoke(FunctionName=name)
        assert json.loads(answer["Payload"].read()) == expected
    for numbers in publisher.numbers.values():
        assert numbers == sorted(set(numbers))


def empty(daemon: Daemon) -> None:
    """Delete all functions and layer versions."""
    client = daemon.client("lambda")
    for page in client.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            client.delete_function(FunctionName=function["FunctionName"])
    for name in LAYERS:
        for page in client.get_paginator("list_layer_versions").paginate(LayerName=name):
            for version in page["LayerVersions"]:
                client.delete_layer_version(LayerName=name, VersionNumber=version["Version"])


def archives(directory: Path) -> list[str]:
    """What is kept under the name of a hash."""
    return [path.name for path in directory.rglob("*") if len(path.name) == 64]
