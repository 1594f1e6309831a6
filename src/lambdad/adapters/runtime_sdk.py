"""The AWS SDK that functions import without packaging it, as in Lambda's own runtimes.

<runtimes>/python-sdk/3.9/            boto3 for one Python, made by `lambdad runtimes add`
<data>/sdk/python-<boto3 version>/    links to lambdad's own boto3, for the Pythons that it can be used with
<runtimes>/nodejs-sdk/v3/             AWS SDK for JavaScript v3 for Node.js 20 and later, with its node_modules
<runtimes>/nodejs-sdk/v3-nodejs18/    the last v3 that Node.js 18 can load
<runtimes>/nodejs-sdk/v2/             AWS SDK for JavaScript v2 for Node.js 14 and 16
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from lambdad.domain.runtimes import Language, Version, satisfies

PYTHON_DISTRIBUTIONS = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")

NODEJS_CLIENTS = (
    "api-gateway",
    "apigatewaymanagementapi",
    "apigatewayv2",
    "cloudformation",
    "cloudwatch",
    "cloudwatch-logs",
    "cognito-identity-provider",
    "dynamodb",
    "dynamodb-streams",
    "ec2",
    "ecr",
    "elastic-load-balancing-v2",
    "eventbridge",
    "firehose",
    "iam",
    "kinesis",
    "kms",
    "lambda",
    "s3",
    "scheduler",
    "secrets-manager",
    "ses",
    "sesv2",
    "sfn",
    "sns",
    "sqs",
    "ssm",
    "sts",
)
"""The v3 clients that lambdad installs: those of the services it carries. Lambda has all of AWS's."""

_NODEJS_LIBRARIES = ("credential-providers", "lib-dynamodb", "lib-storage", "s3-request-presigner", "util-dynamodb")


@dataclass(frozen=True, slots=True)
class NodejsSdk:
    """One line of the AWS SDK for JavaScript: the directory it has, and what npm installs into it."""

    name: str
    packages: tuple[str, ...]


def nodejs_sdk(version: Version) -> NodejsSdk:
    """The line of the SDK that a version of Node.js has in Lambda: v2 up to 16, v3 from 18.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-nodejs.html#nodejs-sdk-included. v3 needs Node.js 20 since
    3.968.0, as the `engines` of its packages say.
    """
    if version[0] < 18:
        return NodejsSdk("v2", ("aws-sdk@2",))
    name, wanted = ("v3-nodejs18", "<3.968.0") if version[0] < 20 else ("v3", "3")
    names = [f"@aws-sdk/client-{client}" for client in NODEJS_CLIENTS]
    names += [f"@aws-sdk/{library}" for library in _NODEJS_LIBRARIES]
    return NodejsSdk(name, tuple(f"{package}@{wanted}" for package in names))


class RuntimeSdks:
    """The SDK directories of this machine."""

    def __init__(self, data_dir: Path, runtimes_dir: Path) -> None:
        self._bundled_dir = data_dir / "sdk"
        self._runtimes_dir = runtimes_dir
        self._making = threading.Lock()
        self._is_made = False

    def installed_dir(self, language: Language, version: Version) -> Path:
        """Where `lambdad runtimes add` puts the SDK of an interpreter, whether it is there or not."""
        if language is Language.PYTHON:
            return self._runtimes_dir / "python-sdk" / f"{version[0]}.{version[1]}"
        return self._runtimes_dir / "nodejs-sdk" / nodejs_sdk(version).name

    def dirs(self, language: Language, version: Version) -> tuple[Path, ...]:
        """The directories for the module path of an interpreter; none when no SDK suits it."""
        if language is Language.PROVIDED:
            return ()
        installed = self.installed_dir(language, version)
        if language is Language.NODEJS:
            return (installed / "node_modules",) if (installed / "node_modules").is_dir() else ()
        if installed.is_dir():
            return (installed,)
        bundled = self._bundled(version)
        return (bundled,) if bundled else ()

    def _bundled(self, version: Version) -> Path | None:
        """lambdad's own boto3 as a directory of links, and nothing else of where it is installed."""
        own = self._own
        if not own or not all(satisfies(version, _requires_python(each)) for each in own):
            return None
        directory = self._bundled_dir / f"python-{own[0].version}"
        with self._making:
            if not self._is_made or not directory.is_dir():
                links = {name: path for each in own for name, path in _top_level(each).items()}
                if not _holds(directory, links):
                    _make(directory, links)
                self._is_made = True
        return directory

    @cached_property
    def _own(self) -> list[Distribution]:
        try:
            return [distribution(name) for name in PYTHON_DISTRIBUTIONS]
        except PackageNotFoundError:
            return []


@lru_cache
def _requires_python(found: Distribution) -> str | None:
    return next(iter(found.metadata.get_all("Requires-Python") or ()), None)


def _top_level(found: Distribution) -> dict[str, Path]:
    """The files and directories that a distribution has directly in site-packages."""
    names = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
    return {name: Path(str(found.locate_file(name))).resolve() for name in names}


def _holds(directory: Path, links: dict[str, Path]) -> bool:
    try:
        there = {path.name: Path(os.readlink(path)) for path in directory.iterdir()}
    except OSError:  # it is not there, or holds something else than links
        return False
    return there == links


def _make(directory: Path, links: dict[str, Path]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory.parent) as unfinished:
        made = Path(unfinished, "made")
        made.mkdir(mode=0o755)
        for name, target in links.items():
            (made / name).symlink_to(target)
        with contextlib.suppress(FileNotFoundError):  # one that was made for another installation of lambdad
            directory.rename(Path(unfinished, "old"))
        made.rename(directory)
    directory.chmod(0o755)
