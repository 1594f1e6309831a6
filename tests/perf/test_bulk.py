"""What SPECIFICATION.md promises of many functions at once: lists of them, and the creation of many."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from daemons import ROLE, Daemon, create_python, zip_of
from lambdad.adapters.aes_gcm_cipher import AesGcmCipher
from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.adapters.sqlite_store import SqliteStore
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import Function, FunctionVersion, LoggingConfig
from lambdad.ports.store import Tables
from lambdad.services.environment_encryption import EnvironmentEncryption

Report = Callable[[str], None]

FUNCTIONS = 5000
PAGE = 50
ROUNDS = 30
PAGE_BAR_S = 0.1
PAGE_BOUND = 3.0
"""In multiples of a page of as many functions where there are no others."""
KMS_PAGE_BOUND = 2.0
"""In multiples of as many calls of KMS one after the other."""
CREATIONS = 1000
CREATIONS_BAR_S = 20.0
CREATION_BOUND = 15.0
"""In multiples of GetFunction."""
THREADS = 8

SOURCE = "def handler(event, context):\n    return 1\n"
VARIABLES = {"TABLE": "orders", "TOKEN": "0123456789abcdef" * 4}


def functions(account_id: str, count: int) -> list[FunctionVersion]:
    return [
        FunctionVersion(
            key=FunctionKey(account_id, "us-east-1", f"function-{number:05}"),
            version=LATEST,
            role=ROLE,
            runtime="python3.11",
            handler="app.handler",
            code_sha256="00" * 32,
            code_size=200,
            logging=LoggingConfig(f"/aws/lambda/function-{number:05}"),
            revision_id=str(uuid.uuid4()),
            last_modified="2026-11-21T00:00:00.000+0000",
            environment=VARIABLES,
        )
        for number in range(count)
    ]


async def fill(data_dir: Path, accounts: dict[str, int]) -> None:
    """Put functions with encrypted variables into a new data directory."""
    encryption = EnvironmentEncryption(AesGcmCipher(data_dir), MemoryNeighbours())
    drafts = [version for account_id, count in accounts.items() for version in functions(account_id, count)]
    sealed = [await encryption.seal(version) for version in drafts]
    store = SqliteStore(data_dir / "lambdad.db")

    def work(tables: Tables) -> None:
        for version in sealed:
            tables.put_function(Function(version.key))
            tables.put_version(version)

    await store.write(work)
    await store.close()


def taken(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_a_page_of_many_functions(tmp_path: Path, report: Report) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    asyncio.run(fill(data_dir, {"111111111111": FUNCTIONS, "222222222222": PAGE}))
    with Daemon(data_dir) as daemon:
        many = daemon.client("lambda", account_id="111111111111")
        few = daemon.client("lambda", account_id="222222222222")
        pages = list(many.get_paginator("list_functions").paginate())
        assert sum(len(page["Functions"]) for page in pages) == FUNCTIONS
        assert pages[-1]["Functions"][-1]["Environment"] == {"Variables": VARIABLES}
        marker = pages[len(pages) // 2]["NextMarker"]
        of_many = median(taken(lambda: many.list_functions(Marker=marker)) for _ in range(ROUNDS))
        of_few = median(taken(few.list_functions) for _ in range(ROUNDS))
    ratio = of_many / of_few
    report(
        f"ListFunctions, {PAGE} of {FUNCTIONS} functions: {of_many * 1000:.1f} ms (bar {PAGE_BAR_S * 1000:.0f} ms) = "
        f"{ratio:.1f} x a page where there are only {PAGE}"
    )
    assert ratio <= PAGE_BOUND


def test_a_page_of_functions_with_a_key_of_kms(daemon_of_module: Daemon, report: Report) -> None:
    client, kms = (daemon_of_module.client(name, account_id="333333333333") for name in ("lambda", "kms"))
    key = kms.create_key()["KeyMetadata"]["Arn"]
    for number in range(PAGE):
        variables = {"Variables": VARIABLES}
        create_python(client, f"function-{number}", SOURCE, Environment=variables, KMSKeyArn=key)
    blob = kms.encrypt(KeyId=key, Plaintext=b"0" * 32)["CiphertextBlob"]
    page = median(taken(client.list_functions) for _ in range(5))
    calls = median(taken(lambda: kms.decrypt(CiphertextBlob=blob)) for _ in range(PAGE)) * PAGE
    report(
        f"ListFunctions, {PAGE} functions with a key of KMS: {page * 1000:.0f} ms = "
        f"{page / calls:.2f} x {PAGE} calls of KMS"
    )
    assert page / calls <= KMS_PAGE_BOUND


def test_the_creation_of_many_functions(daemon_of_module: Daemon, report: Report) -> None:
    client = daemon_of_module.client("lambda", account_id="444444444444")
    package = zip_of({"app.py": SOURCE})

    def create(number: int) -> None:
        client.create_function(
            FunctionName=f"created-{number}",
            Runtime="python3.11",
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": package},
            Environment={"Variables": VARIABLES},
        )

    def at_once() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(create, range(CREATIONS, 2 * CREATIONS)))

    create(-1)
    alone = taken(lambda: list(map(create, range(CREATIONS))))
    together = taken(at_once)
    one_get = median(taken(lambda: client.get_function(FunctionName="created-0")) for _ in range(ROUNDS))
    ratio = alone / CREATIONS / one_get
    report(
        f"{CREATIONS} x CreateFunction of a small .zip: {alone:.1f} s by one thread, {together:.1f} s by {THREADS} "
        f"(bar {CREATIONS_BAR_S:.0f} s); one = {ratio:.1f} x GetFunction"
    )
    assert ratio <= CREATION_BOUND
