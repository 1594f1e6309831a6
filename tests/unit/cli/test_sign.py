"""`lambdad sign` on packages and data directories of its own."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

from click.testing import CliRunner

from lambdad.adapters.package_signatures import FilePackageSignatures
from lambdad.cli.sign import command

ARN = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/Mine/abcdefghij"


def package(directory: Path) -> Path:
    path = directory / "function.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("app.py", "one")
    return path


def job_of(data_dir: Path, path: Path) -> str:
    async def parts() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    found = asyncio.run(FilePackageSignatures(data_dir).verify(parts()))
    assert found is not None
    assert found.profile_version_arn == ARN
    return found.job_arn


def test_a_package_is_signed_in_its_place_or_beside_it(tmp_path: Path) -> None:
    path, data_dir = package(tmp_path), tmp_path / "data"
    options = ["--profile-version-arn", ARN, "--data-dir", str(data_dir)]
    beside = tmp_path / "signed.zip"
    first = CliRunner().invoke(command, [str(path), *options, "-o", str(beside), "--json"])
    assert first.exit_code == 0, first.output
    assert json.loads(first.output) == {"Package": str(beside), "SigningJobArn": job_of(data_dir, beside)}
    second = CliRunner().invoke(command, [str(path), *options])
    assert second.exit_code == 0, second.output
    assert job_of(data_dir, path) in second.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "function.zip", "signed.zip"]


def test_what_cannot_be_signed_stays_as_it_is(tmp_path: Path) -> None:
    path, options = package(tmp_path), ["--data-dir", str(tmp_path / "data"), "--profile-version-arn"]
    assert CliRunner().invoke(command, [str(path), *options, "Mine"]).exit_code == 1
    assert CliRunner().invoke(command, [str(path), *options, ARN]).exit_code == 0
    signed = path.read_bytes()
    again = CliRunner().invoke(command, [str(path), *options, ARN])
    assert again.exit_code == 1
    assert "is signed already" in again.output
    assert path.read_bytes() == signed
