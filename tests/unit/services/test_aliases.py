"""What the versions of an alias with weights must have in common. The rest is in the api tier."""

from __future__ import annotations

import pytest

from lambdad.domain.errors import InvalidParameterValueException
from unit.services.fakes import World, reference, scenario

QUEUE = "arn:aws:sqs:us-east-1:000000000000:dead"
ROLE = "arn:aws:iam::000000000000:role/another"


@scenario
async def test_weighted_versions_have_one_role_and_one_dead_letter_queue(world: World) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html"""
    await world.create()
    for changes in ({}, {"timeout_s": 9}, {"dead_letter_arn": QUEUE}, {"role": ROLE}):
        await world.functions.update_configuration(reference(), changes, None)
        await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "live", "1", "", {"2": 0.5})
    for version, message in (("3", "dead-letter queue"), ("4", "execution role")):
        with pytest.raises(InvalidParameterValueException, match=message):
            await world.aliases.create(reference(), "another", "1", "", {version: 0.5})
        with pytest.raises(InvalidParameterValueException, match=message):
            await world.aliases.update(
                reference(), "live", version=version, description=None, weights=None, revision_id=None
            )
    assert (await world.aliases.get(reference(), "live")).function_version == "1"
