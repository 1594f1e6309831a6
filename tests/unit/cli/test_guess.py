"""Languages and handlers, found in sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from lambdad.cli.guess import CannotGuess, handler_of, has_handler, language_of
from lambdad.domain.runtimes import Language

PYTHON_HANDLER = "def handler(event, context): ...\n"
JAVASCRIPT_HANDLER = "exports.handler = async () => 1;\n"


@dataclass
class Files:
    """Sources in memory."""

    files: Mapping[str, str]
    executables: Sequence[str] = field(default=())

    @property
    def names(self) -> Sequence[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name].encode()

    def is_executable(self, name: str) -> bool:
        return name in self.executables

    def package(self) -> bytes:
        raise AssertionError("nothing here zips")


@pytest.mark.parametrize(
    ("files", "language"),
    [
        ({"app.py": PYTHON_HANDLER}, Language.PYTHON),
        ({"whatever.py": "", "lib/index.js": ""}, Language.PYTHON),
        ({"index.js": JAVASCRIPT_HANDLER}, Language.NODEJS),
        ({"index.mjs": ""}, Language.NODEJS),
        ({"package.json": "{}", "dist/index.js": ""}, Language.NODEJS),
        ({"app.py": PYTHON_HANDLER, "package.json": "{}"}, Language.PYTHON),
        ({"app.py": PYTHON_HANDLER, "webpack.config.js": "module.exports = {}"}, Language.PYTHON),
        ({"build.py": "print(1)", "index.js": JAVASCRIPT_HANDLER}, Language.NODEJS),
    ],
)
def test_a_language(files: dict[str, str], language: Language) -> None:
    assert language_of(Files(files), None) is language


def test_an_executable_bootstrap_is_a_runtime_of_its_own() -> None:
    files = Files({"bootstrap": "", "app.py": PYTHON_HANDLER}, ["bootstrap"])
    assert language_of(files, None) is Language.PROVIDED
    assert handler_of(files, Language.PROVIDED).value == "bootstrap"


def test_a_bootstrap_that_cannot_be_run_is_told_how() -> None:
    with pytest.raises(CannotGuess, match=r"is not executable: run `chmod \+x bootstrap`"):
        language_of(Files({"bootstrap": ""}), None)


def test_the_handler_given_decides_between_languages() -> None:
    files = Files({"app.py": PYTHON_HANDLER, "index.js": JAVASCRIPT_HANDLER})
    assert language_of(files, "index.handler") is Language.NODEJS
    assert language_of(files, "app.handler") is Language.PYTHON
    with pytest.raises(CannotGuess, match="both Python and JavaScript files: give --runtime"):
        language_of(files, None)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"src/app.py": PYTHON_HANDLER}, "all it has is src/: package what is in that directory instead"),
        ({"index.ts": "export const handler = 1"}, "it has TypeScript, which Lambda does not run: compile it"),
        ({"main.go": "", "go.mod": ""}, "it has go.mod, main.go. Give --runtime"),
        ({f"file{n}": "" for n in range(9)}, "it has file0, file1, file2, file3, file4, file5, .... Give --runtime"),
    ],
)
def test_what_no_language_is_seen_in_is_described(files: dict[str, str], said: str) -> None:
    with pytest.raises(CannotGuess) as failed:
        language_of(Files(files), None)
    assert failed.value.message.startswith("looked for *.py, package.json, *.js and an executable `bootstrap`")
    assert said in failed.value.message


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"lambda_function.py": "def lambda_handler(event, context): ..."}, "lambda_function.lambda_handler"),
        ({"app.py": "async def handler(event, context): ..."}, "app.handler"),
        ({"app.py": "def handler(e, c): ...\ndef lambda_handler(e, c): ..."}, "app.lambda_handler"),
        ({"index.py": "handler = Mangum(app)"}, "index.handler"),
        ({"index.py": "handler: Any = Mangum(app)"}, "index.handler"),
        ({"main.py": "from inner import work as handler"}, "main.handler"),
        ({"main.py": "try:\n    def handler(e, c): ...\nexcept E: ..."}, "main.handler"),
        ({"main.py": "def main(event, context): ..."}, "main.main"),
        ({"job.py": "def process(event, context): ...\ndef inner(x): ..."}, "job.process"),
        ({"job.py": "def process(_event, _context): ..."}, "job.process"),
        ({"app.py": PYTHON_HANDLER, "job.py": "def process(event, context): ..."}, "app.handler"),
        ({"aaa.py": PYTHON_HANDLER, "lambda_function.py": PYTHON_HANDLER}, "lambda_function.handler"),
        ({"broken.py": "def handler(:", "fine.py": PYTHON_HANDLER}, "fine.handler"),
    ],
)
def test_a_python_handler(files: dict[str, str], handler: str) -> None:
    assert handler_of(Files(files), Language.PYTHON).value == handler


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.js": JAVASCRIPT_HANDLER}, "index.handler"),
        ({"index.js": "module.exports.handler = (event) => 1"}, "index.handler"),
        ({"index.js": "module.exports = { handler }"}, "index.handler"),
        ({"index.js": "module.exports = {\n  handler: async (event) => {\n    return {}\n  } }"}, "index.handler"),
        ({"index.js": "module.exports = { helper, async handler(event, context) { } }"}, "index.handler"),
        ({"index.mjs": "export const handler = async () => 1"}, "index.handler"),
        ({"index.mjs": "export async function handler(event) {}"}, "index.handler"),
        ({"index.mjs": "const a = 1\nexport { a as handler, b }"}, "index.handler"),
        ({"app.cjs": "exports.lambdaHandler = 1"}, "app.lambdaHandler"),
        ({"job.js": "exports.process = 1"}, "job.process"),
        ({"index.js": "// exports.handler = 1\n/* exports.handler = 2 */\nexports.run = 3"}, "index.run"),
        ({"index.js": "if (exports.main == 1) {}\nexports.run = 3"}, "index.run"),
    ],
)
def test_a_javascript_handler(files: dict[str, str], handler: str) -> None:
    assert handler_of(Files(files), Language.NODEJS).value == handler


def test_a_handler_says_where_it_was_found() -> None:
    assert handler_of(Files({"app.py": PYTHON_HANDLER}), Language.PYTHON).reason == "found in app.py"


@pytest.mark.parametrize(
    ("files", "language", "said"),
    [
        (
            {"a.py": PYTHON_HANDLER, "b.py": PYTHON_HANDLER},
            Language.PYTHON,
            "more than one function could be the handler: give --handler a.handler or --handler b.handler",
        ),
        (
            {"script.py": "def main(): ..."},
            Language.PYTHON,
            "no handler found: looked for a function named lambda_handler or handler or main in *.py at the top of the "
            "package, and for any function with the parameters (event, context). Give --handler FILE.FUNCTION",
        ),
        (
            {"index.js": "console.log(1)", "package.json": "{}"},
            Language.NODEJS,
            "no handler found: looked for a function named handler or lambdaHandler or lambda_handler or main in "
            "*.mjs, *.js, *.cjs at the top of the package. Give --handler FILE.FUNCTION",
        ),
        ({"a.class": ""}, Language.JAVA, "lambdad cannot find a handler in java code: give --handler"),
    ],
)
def test_a_handler_that_cannot_be_told_says_what_to_give(files: dict[str, str], language: Language, said: str) -> None:
    with pytest.raises(CannotGuess) as failed:
        handler_of(Files(files), language)
    assert failed.value.message == said


@pytest.mark.parametrize(
    ("language", "handler", "is_there"),
    [
        (Language.PYTHON, "app.handler", True),
        (Language.PYTHON, "other.handler", False),
        (Language.PYTHON, "pkg.inner.handler", True),
        (Language.PYTHON, "pkg/inner.handler", True),
        (Language.PYTHON, "pkg.handler", True),
        (Language.NODEJS, "src/index.handler", True),
        (Language.NODEJS, "src/index.api.handler", True),
        (Language.NODEJS, "index.handler", False),
        (Language.PROVIDED, "anything", True),
    ],
)
def test_the_file_of_a_handler_is_known(language: Language, handler: str, is_there: bool) -> None:
    files = Files({"app.py": "", "pkg/__init__.py": "", "pkg/inner.py": "", "src/index.mjs": ""})
    assert has_handler(files, language, handler) is is_there
