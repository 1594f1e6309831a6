"""What the function writes: prints, log records, and their order."""

import json
import re

import pytest

LOGS = "import logging\ndef handler(event, context):\n    "
JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}


def log(start, statements, **environ):
    """Run the statements in a handler; what was written and the request's id."""
    session = start(LOGS + statements.replace("\n", "\n    "), environ=environ)
    request_id = session.send_event(b"{}")
    answer = session.read_answer(request_id)
    assert answer.kind == "response", answer.body
    return session.written(), request_id


def test_a_text_record_has_the_format_of_aws(start):
    (record,), request_id = log(start, "logging.warning('two\\nlines %d', 1)")
    assert record.kind == 0xA55A0003
    match = re.fullmatch(r"\[WARNING\]\t(\S+)\t(\S+)\ttwo\nlines 1\n", record.text)
    assert match
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", match[1])
    assert match[2] == request_id


def test_times_are_utc(start):
    (record,), _ = log(
        start, "logging.warning(__import__('time').strftime('%Y-%m-%dT%H', __import__('time').gmtime()))"
    )
    fields = record.text.rstrip("\n").split("\t")
    assert fields[1].startswith(fields[3])


def test_a_frame_carries_the_time_of_the_call(start):
    (record,), _ = log(start, "import time; logging.warning(time.time())")
    assert abs(float(record.text.split("\t")[3]) - record.time_s) < 5


@pytest.mark.parametrize(
    ("level", "first"),
    [
        ("", "WARNING"),
        ("TRACE", "DEBUG"),
        ("DEBUG", "DEBUG"),
        ("INFO", "INFO"),
        ("WARN", "WARNING"),
        ("ERROR", "ERROR"),
        ("FATAL", "CRITICAL"),
    ],
)
def test_the_level_is_that_of_the_function(start, level, first):
    names = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    statements = "\n".join(f"logging.{name.lower()}('x')" for name in names)
    records, _ = log(start, statements, **({"AWS_LAMBDA_LOG_LEVEL": level} if level else {}))
    assert [record.text.split("\t")[0].strip("[]") for record in records] == names[names.index(first) :]
    kinds = {
        "DEBUG": 0xA55A000B,
        "INFO": 0xA55A000F,
        "WARNING": 0xA55A0013,
        "ERROR": 0xA55A0017,
        "CRITICAL": 0xA55A001B,
    }
    expected = [kinds[name] if level else 0xA55A0003 for name in names[names.index(first) :]]
    assert [record.kind for record in records] == expected


def test_info_logs_after_set_level(start):
    records, _ = log(start, "logging.getLogger().setLevel('INFO'); logging.getLogger('a.b').info('x')")
    assert [record.text.split("\t")[0] for record in records] == ["[INFO]"]


def test_a_json_record_has_the_fields_of_aws(start):
    statements = "logging.getLogger('a.b').error('m %s', 'ü', extra={'order': 7, 'what': {1, 2}.__class__})"
    (record,), request_id = log(start, statements, **JSON)
    assert record.kind == 0xA55A0016
    fields = json.loads(record.text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields.pop("timestamp"))
    assert fields == {
        "level": "ERROR",
        "message": "m ü",
        "logger": "a.b",
        "requestId": request_id,
        "order": 7,
        "what": "<class 'set'>",
    }


def test_a_json_record_of_an_exception_has_its_parts(start, tmp_path):
    statements = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')"
    (record,), _ = log(start, statements, **JSON)
    fields = json.loads(record.text)
    assert fields["errorType"] == "ZeroDivisionError"
    assert fields["errorMessage"] == "division by zero"
    assert fields["location"] == f"{tmp_path / 'app.py'}:handler:6"
    assert fields["stackTrace"][0].startswith(f'  File "{tmp_path / "app.py"}", line 4, in handler\n    1 / 0\n')


def test_a_dict_is_logged_as_an_object_in_json(start):
    (record,), _ = log(start, "logging.warning({'a': {'b': 1}})", **JSON)
    assert json.loads(record.text)["message"] == {"a": {"b": 1}}


def test_a_tenant_is_named_in_json(start):
    session = start(LOGS + "logging.warning('x')", environ=JSON)
    session.invoke(Lambda_Runtime_Aws_Tenant_Id="blue")
    assert json.loads(session.written()[0].text)["tenantId"] == "blue"


def test_records_before_the_first_event_have_no_request_id(start):
    session = start("import logging\nlogging.warning('init')\nhandler = print")
    session.wait_until_ready()
    assert session.written()[0].text.split("\t")[2:] == ["", "init\n"]


def test_prints_and_records_keep_their_order(start):
    statements = (
        "import sys\nprint('one')\nlogging.warning('two')\nprint('three', end='')\nlogging.warning('four')\n"
        "sys.stderr.write('five')\nlogging.warning('six')\nsys.stdout.buffer.write(b'seven')\nprint('eight', end='')"
    )
    items, _ = log(start, statements)
    assert [item.text.rsplit("\t")[-1].strip() for item in items] == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seveneight",
    ]


def test_a_line_is_written_in_one_piece(start):
    session = start(
        "import os\n"
        "def handler(event, context):\n"
        "    reader, writer = os.pipe()\n"
        "    os.dup2(writer, 1)\n"
        "    print('a', 1, 'b')\n"
        "    return os.read(reader, 100).decode()\n"
    )
    assert session.invoke().json == "a 1 b\n"


def test_everything_printed_is_in_the_pipe_before_the_answer(start):
    session = start("def handler(event, context): print('x' * 200_000, end='')")
    session.invoke()
    assert session.written()[0].text == "x" * 200_000


def test_big_records_and_prints_of_many_threads_stay_whole(start):
    statements = (
        "import threading\n"
        "def write(number):\n"
        "    for turn in range(20):\n"
        "        logging.warning('%d' % number * 70_000)\n"
        "        print(str(number) * 3)\n"
        "threads = [threading.Thread(target=write, args=[number]) for number in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    )
    items, _ = log(start, statements)
    records = [item.text.split("\t")[3].rstrip("\n") for item in items if item.kind]
    assert sorted(records) == sorted(str(number) * 70_000 for number in range(4) for _ in range(20))
    printed = "".join(item.text for item in items if not item.kind)
    assert sorted(re.findall(r"[0-9]{3}", printed)) == sorted(str(number) * 3 for number in range(4) for _ in range(20))


def test_a_pipe_that_a_child_made_non_blocking_loses_nothing(start):
    statements = "import os\nos.set_blocking(1, False)\nprint('y' * 1_000_000)\nlogging.warning('z' * 1_000_000)"
    items, _ = log(start, statements)
    assert items[0].text == "y" * 1_000_000 + "\n"
    assert items[1].text.endswith("z" * 1_000_000 + "\n")


def test_print_stays_plain_in_json(start):
    items, _ = log(start, "print('plain')", **JSON)
    assert [(item.text, item.kind) for item in items] == [("plain\n", None)]


def test_context_log_writes_one_record(start):
    session = start("def handler(event, context): context.log('a\\nb')")
    session.invoke()
    assert [(item.text, item.kind) for item in session.written()] == [("a\nb", 0xA55A0003)]


def test_context_log_falls_back_to_standard_output_without_the_handler(start):
    items, _ = log(start, "logging.getLogger().handlers.clear()\ncontext.log('a')")
    assert [(item.text, item.kind) for item in items] == [("a", None)]


def test_basic_config_does_nothing_unless_forced(start):
    items, request_id = log(start, "logging.basicConfig(format='mine %(message)s')\nlogging.warning('x')")
    assert request_id in items[0].text
    items, _ = log(start, "logging.basicConfig(format='mine %(message)s', force=True)\nlogging.warning('x')")
    assert [(item.text, item.kind) for item in items] == [("mine x\n", None)]


def test_a_record_that_cannot_be_formatted_raises_in_the_handler(start):
    session = start(LOGS + "logging.warning('none', 1)")
    assert session.invoke().json["errorType"] == "TypeError"


def test_surrogates_in_a_record_are_escaped(start):
    (record,), _ = log(start, "logging.warning('\\ud800')")
    assert record.text.endswith("\\ud800\n")


def test_without_a_telemetry_descriptor_records_are_text(start):
    session = start(LOGS + "logging.warning('x')", telemetry=False)
    session.invoke()
    (text,) = session.written()
    assert text.kind is None
    assert text.text.startswith("[WARNING]\t")


def test_streams_that_the_function_replaced_are_flushed(start):
    session = start(
        "import io, sys\n"
        "sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, 'w', closefd=False)))\n"
        "sys.stderr = None\n"
        "def handler(event, context): print('mine')\n"
    )
    session.invoke()
    assert [item.text for item in session.written()] == ["mine\n"]


def test_a_closed_standard_output_harms_nobody(start):
    session = start("import sys\ndef handler(event, context): sys.stdout.close()")
    assert session.invoke().kind == "response"
    assert session.invoke().kind == "response"
