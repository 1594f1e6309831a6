"""`lambdad sign`: sign a deployment package for this machine, as AWS Signer does for AWS. It needs no daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from lambdad.cli import output
from lambdad.cli.failures import CommandFailed, QuietCommand
from lambdad.cli.machine import machine_settings
from lambdad.cli.start import data_dir_of
from lambdad.domain.settings import help_of

VALID_DAYS: Final = 4108
"""135 months, as long as signatures of AWS Signer are valid at most, and unless said."""


@click.command(name="sign", cls=QuietCommand, short_help="Sign a deployment package.")
@click.argument("package", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--profile-version-arn",
    required=True,
    metavar="ARN",
    help="The signing profile to sign with, as code signing configurations name it.",
)
@click.option("-o", "--output", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.")
@click.option(
    "--valid-days",
    type=click.IntRange(1, VALID_DAYS),
    default=VALID_DAYS,
    show_default=True,
    help="After how many days the signature expires.",
)
@click.option("--data-dir", default="", help=help_of("data_dir"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    package: Path, profile_version_arn: str, target: Path | None, valid_days: int, data_dir: str, as_json: bool
) -> None:
    """Sign a .zip archive with the key that this data directory has for a signing profile.

    The first time, the key is made, and daemons on this data directory trust it from then on. Without --output, the
    package is replaced by the signed one.
    """
    from lambdad.adapters.package_signing import key_of, sign

    if not profile_version_arn.startswith("arn:") or "/signing-profiles/" not in profile_version_arn:
        raise CommandFailed(f"{profile_version_arn} is not the ARN of a version of a signing profile")
    directory = data_dir_of(machine_settings(data_dir))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = key_of(directory, profile_version_arn)
    unfinished = (target or package).with_name(f"{(target or package).name}.signing")
    signature = sign(package, unfinished, key, profile_version_arn, valid_days)
    os.replace(unfinished, target or package)
    if as_json:
        output.say_json({"Package": str(target or package), "SigningJobArn": signature.job_arn})
    else:
        output.say(f"{target or package}: signed as {signature.job_arn}, for {valid_days} days")
