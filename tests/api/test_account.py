"""GetAccountSettings."""

from __future__ import annotations

from typing import Any

from api_calls import new_account
from daemons import create_python, zip_of


def settings(client: Any) -> dict[str, Any]:
    answer = dict(client.get_account_settings())
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    return answer


def test_an_account_that_is_new_has_the_documented_limits(shared_daemon: Any) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    assert settings(shared_daemon.client("lambda", account_id=new_account())) == {
        "AccountLimit": {
            "TotalCodeSize": 80_530_636_800,
            "CodeSizeUnzipped": 262_144_000,
            "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 1000,
        },
        "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": 0},
    }


def test_usage_counts_functions_and_the_code_of_their_versions(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    package = zip_of({"app.py": "def handler(event, context):\n    return event\n"})

    def usage() -> tuple[int, int]:
        used = settings(client)["AccountUsage"]
        return used["FunctionCount"], used["TotalCodeSize"]

    create_python(client, "first", "", Code={"ZipFile": package})
    assert usage() == (1, len(package))
    create_python(client, "second", "", Code={"ZipFile": package}, Publish=True)
    assert usage() == (2, 3 * len(package))
    larger = zip_of({"app.py": "def handler(event, context):\n    return event\n", "more": "more"})
    client.update_function_code(FunctionName="first", ZipFile=larger)
    assert usage() == (2, 2 * len(package) + len(larger))
    client.delete_function(FunctionName="second", Qualifier="1")
    assert usage() == (2, len(package) + len(larger))
    client.delete_function(FunctionName="second")
    assert usage() == (1, len(larger))
    client.delete_function(FunctionName="first")
    assert usage() == (0, 0)


def test_reservations_leave_less_unreserved(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    source = "def handler(event, context):\n    return event\n"
    for name, reserved in (("first", 100), ("second", 0), ("third", 7)):
        create_python(client, name, source)
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    limits = settings(client)["AccountLimit"]
    assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (1000, 893)
    client.delete_function_concurrency(FunctionName="first")
    assert settings(client)["AccountLimit"]["UnreservedConcurrentExecutions"] == 993
