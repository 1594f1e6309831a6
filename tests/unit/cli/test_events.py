"""`lambdad events`: what it shows, what it asks, and what it sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import pytest
from click.testing import CliRunner, Result

from lambdad.cli import events
from lambdad.cli.events import command

REGION, ACCOUNT = "us-east-1", "000000000000"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:failed"
NOW_MS = 1_795_233_264_000  # 2026-11-21T03:54:24Z
OWN = {"now_ms": NOW_MS, "account_id": ACCOUNT, "region": REGION}


def lane(name: str, **figures: Any) -> dict[str, Any]:
    zero = dict.fromkeys(("waiting", "retrying", "leased", "running", "dead", "ended"), 0)
    return {"lane": name, **zero, "oldest_accepted_ms": None, "next_due_ms": None, **figures}


def event(number: int, **members: Any) -> dict[str, Any]:
    return {
        "id": number,
        "lane": f"{ARN}f",
        "request_id": f"request-{number}",
        "purpose": "Invocation",
        "accepted_ms": NOW_MS - 90_000,
        "due_ms": NOW_MS + 30_000,
        "invocations": 1,
        "backoffs": 2,
        "error_code": 200,
        "error_message": "first\nsecond",
        "source": "",
        "leased": False,
        "condition": None,
        "ended_ms": None,
        "redriven_ms": None,
        **members,
    }


LANES = [
    lane(
        f"{ARN}f:live",
        waiting=5,
        leased=3,
        running=2,
        retrying=1,
        oldest_accepted_ms=NOW_MS - 7_200_000,
        next_due_ms=NOW_MS,
    ),
    lane(f"{ARN}quiet", ended=9),
    lane(
        "arn:aws:lambda:eu-west-1:000000000000:function:g",
        retrying=1,
        oldest_accepted_ms=NOW_MS - 61_000,
        next_due_ms=NOW_MS + 59_900,
    ),
    lane(QUEUE_ARN, dead=4),
]


class Daemon:
    """Answers by page, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def ask(self, endpoint_url: str, page: str, body: Mapping[str, Any] | None = None) -> Any:
        path, _, query = page.partition("?")
        members = dict(parse_qsl(query)) if body is None else json.loads(json.dumps(body))
        self.asked.append((path, members))
        return self.answers[path]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    daemon = Daemon()
    monkeypatch.setattr(events, "ask", daemon.ask)
    return daemon


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=text)


def table(shown: str) -> list[str]:
    return [" ".join(line.split()) for line in shown.splitlines() if line.strip()]


def test_functions_into_a_pipe(daemon: Daemon) -> None:
    daemon.answers["events"] = {**OWN, "functions": LANES}
    assert run().stdout == (
        "f:live\t6\t2\t1\t0\t2026-11-21T01:54:24.000Z\t2026-11-21T03:54:24.000Z\n"
        "arn:aws:lambda:eu-west-1:000000000000:function:g\t0\t0\t1\t0\t2026-11-21T03:53:23.000Z\t2026-11-21T03:55:23.900Z\n"
        f"{QUEUE_ARN}\t0\t0\t0\t4\t\t\n"
    )


@pytest.mark.usefixtures("terminal")
def test_functions_on_a_terminal(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    daemon.answers["events"] = {**OWN, "functions": LANES}
    lines = table(run().stdout)
    assert lines[0] == "function waiting running retrying failed oldest next attempt"
    assert lines[2:] == [
        "f:live 6 2 1 0 2 h now",
        "arn:aws:lambda:eu-west-1:000000000000:function:g 0 0 1 0 61 s in 59 s",
        f"{QUEUE_ARN} 0 0 0 4",
    ]


def test_functions_for_programs(daemon: Daemon) -> None:
    daemon.answers["events"] = {**OWN, "functions": LANES}
    documents = json.loads(run("--json").stdout)
    assert [document["Arn"] for document in documents] == [each["lane"] for each in LANES if each != LANES[1]]
    assert documents[0] == {
        "Arn": f"{ARN}f:live",
        "Waiting": 6,
        "Running": 2,
        "Retrying": 1,
        "Failed": 0,
        "OldestAccepted": "2026-11-21T01:54:24.000Z",
        "NextAttempt": "2026-11-21T03:54:24.000Z",
    }


def test_names_are_short_where_the_user_is(daemon: Daemon) -> None:
    daemon.answers["events"] = {**OWN, "functions": LANES}
    assert [line.split("\t")[0] for line in run("--region", "eu-west-1").stdout.splitlines()] == [
        f"{ARN}f:live",
        "g",
        QUEUE_ARN,
    ]


def test_nothing_is_said_on_standard_error(daemon: Daemon) -> None:
    daemon.answers["events"] = {**OWN, "functions": [LANES[1]]}
    result = run()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no events wait, run or have failed\n")
    assert run("--json").output == "[]\n"


def test_who_and_where_is_sent_along(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111122223333")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    daemon.answers["events/list"] = {**OWN, "events": []}
    run("list", "f", "--region", "eu-west-1")
    assert daemon.asked == [
        (
            "events/list",
            {"function": "f", "account_id": "111122223333", "region": "eu-west-1", "dead": "false", "limit": "100"},
        )
    ]


def test_events_into_a_pipe(daemon: Daemon) -> None:
    daemon.answers["events/list"] = {**OWN, "events": [event(7), event(8, lane=QUEUE_ARN, error_message="")]}
    times = "2026-11-21T03:52:54.000Z\t2026-11-21T03:54:54.000Z"
    assert run("list").stdout == (f"7\tf\trequest-7\t3\t{times}\tfirst\n8\t{QUEUE_ARN}\trequest-8\t3\t{times}\t\n")


@pytest.mark.usefixtures("terminal")
def test_failed_events_on_a_terminal(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    failed = event(7, condition="RetriesExhausted", ended_ms=NOW_MS, accepted_ms=NOW_MS - 200_000)
    daemon.answers["events/list"] = {**OWN, "events": [failed]}
    lines = table(run("list", "--failed", "--limit", "2").stdout)
    assert daemon.asked[0][1]["dead"] == "true"
    assert lines[0] == "id function request id attempts age outcome last error"
    assert lines[2:] == ["7 f request-7 3 3 min RetriesExhausted first"]


def test_events_for_programs(daemon: Daemon) -> None:
    failed = event(8, condition="Refused", ended_ms=NOW_MS, purpose="OnFailure", source=f"{ARN}f")
    daemon.answers["events/list"] = {**OWN, "events": [event(7), failed]}
    first, second = json.loads(run("list", "--json").stdout)
    assert first == {
        "Id": 7,
        "Arn": f"{ARN}f",
        "RequestId": "request-7",
        "Purpose": "Invocation",
        "Source": None,
        "Attempts": 3,
        "Accepted": "2026-11-21T03:52:54.000Z",
        "NextAttempt": "2026-11-21T03:54:54.000Z",
        "Outcome": None,
        "Ended": None,
        "LastError": "first\nsecond",
    }
    assert (second["Source"], second["Outcome"]) == (f"{ARN}f", "Refused")
    assert (second["Ended"], second["NextAttempt"]) == ("2026-11-21T03:54:24.000Z", None)


def test_the_outcome_of_an_invocation(daemon: Daemon) -> None:
    ended = event(8, condition="Success", ended_ms=NOW_MS)
    daemon.answers["events/outcome"] = {**OWN, "events": [ended]}
    assert run("outcome", "request-8").stdout.split("\t")[5] == "Success"
    (document,) = json.loads(run("outcome", "request-8", "--json").stdout)
    assert document["Outcome"] == "Success"


def test_an_outcome_that_nobody_remembers(daemon: Daemon) -> None:
    daemon.answers["events/outcome"] = {**OWN, "events": []}
    result = run("outcome", "r")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "no asynchronous invocation r has ended that is remembered\n"


def test_more_events_than_shown_are_hinted_at(daemon: Daemon) -> None:
    daemon.answers["events/list"] = {**OWN, "events": [event(7), event(8)]}
    assert run("list", "--limit", "2").stderr == "there may be more than these 2: see --limit\n"
    assert run("list", "--limit", "3").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["list"], "no events wait\n"), (["list", "f", "--failed"], "no events of f have failed\n")],
)
def test_no_events(daemon: Daemon, arguments: list[str], said: str) -> None:
    daemon.answers["events/list"] = {**OWN, "events": []}
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", said)


@pytest.mark.parametrize(
    ("arguments", "function", "ids"),
    [([], "", []), (["f:live"], "f:live", []), (["f", "--id", "3", "--id", "4"], "f", [3, 4])],
)
def test_redrive(daemon: Daemon, arguments: list[str], function: str, ids: list[int]) -> None:
    daemon.answers["events/redrive"] = {"events": 1200}
    assert run("redrive", *arguments).output == "1,200 events sent again\n"
    assert daemon.asked == [("events/redrive", {"function": function, "account_id": "", "region": REGION, "ids": ids})]


def test_nothing_to_redrive(daemon: Daemon) -> None:
    daemon.answers["events/redrive"] = {"events": 0}
    assert run("redrive", "f").stderr == "no such events of f have failed\n"


@pytest.fixture
def purgeable(daemon: Daemon) -> Daemon:
    """Six waiting or retrying events, four dead."""
    daemon.answers["events"] = {
        **OWN,
        "functions": [lane("a", waiting=3, retrying=2, leased=7), lane("b", waiting=1, dead=4)],
    }
    daemon.answers["events/purge"] = {"events": 1}
    return daemon


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits at the terminal."""
    monkeypatch.setattr(events, "_can_answer", lambda: True)


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    ("arguments", "question"),
    [(["f"], "Purge 6 waiting events of f? [y/N]: "), (["--failed"], "Purge 4 failed events? [y/N]: ")],
)
def test_purge_asks_first(purgeable: Daemon, arguments: list[str], question: str) -> None:
    refused = run("purge", *arguments, text="n\n")
    assert refused.exit_code == 1
    assert question in refused.output
    assert [page for page, _ in purgeable.asked] == ["events"]
    agreed = run("purge", *arguments, text="y\n")
    assert agreed.exit_code == 0
    assert agreed.stdout.endswith("1 event purged\n")
    page, members = purgeable.asked[-1]
    assert (page, members["dead"], members["function"]) == (
        "events/purge",
        "--failed" in arguments,
        "f" if "f" in arguments else "",
    )


def test_purge_goes_ahead_when_told_so(purgeable: Daemon) -> None:
    assert run("purge", "--yes").output == "1 event purged\n"
    assert [page for page, _ in purgeable.asked] == ["events/purge"]


def test_purge_refuses_when_nobody_can_answer(purgeable: Daemon) -> None:
    result = run("purge", "f", text="y\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "purge asks first, and nobody can answer here; add --yes to go ahead\n"
    assert [page for page, _ in purgeable.asked] == ["events"]


def test_nothing_to_purge_is_not_asked_about(daemon: Daemon) -> None:
    daemon.answers["events"] = {**OWN, "functions": [lane("a", dead=4, leased=2)]}
    daemon.answers["events/purge"] = {"events": 0}
    result = run("purge", "f")
    assert (result.exit_code, result.stderr) == (0, "no events of f wait\n")
    assert [page for page, _ in daemon.asked] == ["events"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.9, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert events._duration(seconds) == text
