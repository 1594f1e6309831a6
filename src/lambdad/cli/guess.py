"""What a package says of itself: its language, and which function in it is the handler."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.cli.failures import CommandFailed
from lambdad.cli.package import Sources
from lambdad.domain.runtimes import Language

BOOTSTRAP: Final = "bootstrap"
_EXTENSIONS: Final = {Language.PYTHON: (".py",), Language.NODEJS: (".mjs", ".js", ".cjs")}
# As AWS's examples, the console and the usual frameworks name them.
_MODULES: Final = {
    Language.PYTHON: ("lambda_function", "app", "index", "main", "handler", "function"),
    Language.NODEJS: ("index", "app", "main", "handler", "function"),
}
_FUNCTIONS: Final = {
    Language.PYTHON: ("lambda_handler", "handler", "main"),
    Language.NODEJS: ("handler", "lambdaHandler", "lambda_handler", "main"),
}
_SOURCE_BYTES: Final = 2 * 1024 * 1024
_LISTED: Final = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """A runtime or a handler, and why it is that one."""

    value: str
    reason: str


class CannotGuess(CommandFailed):
    """The package leaves open what was looked for; the message says what that was, and which option settles it."""


def language_of(sources: Sources, handler: str | None) -> Language:
    """The language of a package. Raises CannotGuess."""
    if BOOTSTRAP in sources.names:
        if not sources.is_executable(BOOTSTRAP):
            raise CannotGuess(
                f"`{BOOTSTRAP}` is in the package and is not executable: run `chmod +x {BOOTSTRAP}`, or give --runtime"
            )
        return Language.PROVIDED
    found = [language for language in _EXTENSIONS if _modules(sources, language)]
    if not found and "package.json" in sources.names:
        found = [Language.NODEJS]
    if len(found) > 1:
        if handler is not None:
            found = [language for language in found if has_handler(sources, language, handler)]
        else:
            found = [language for language in found if _candidates(sources, language)]
        if len(found) != 1:
            raise CannotGuess("the package has both Python and JavaScript files: give --runtime, such as python3.13")
    if not found:
        raise CannotGuess(_no_language(sources))
    return found[0]


def _no_language(sources: Sources) -> str:
    tops = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in sources.names})
    looked = f"looked for *.py, package.json, *.js and an executable `{BOOTSTRAP}` at the top of the package"
    if len(tops) == 1 and tops[0].endswith("/"):
        return f"{looked}; all it has is {tops[0]}: package what is in that directory instead, or give --runtime"
    if any(name.endswith(".ts") for name in tops):
        return f"{looked}; it has TypeScript, which Lambda does not run: compile it to JavaScript, or give --runtime"
    shown = ", ".join(tops[:_LISTED]) + (", ..." if len(tops) > _LISTED else "")
    return f"{looked}; it has {shown}. Give --runtime"


def handler_of(sources: Sources, language: Language) -> Choice:
    """The handler of a package, by the functions in its source. Raises CannotGuess."""
    if language is Language.PROVIDED:
        return Choice(BOOTSTRAP, "the package brings its own runtime")
    if language not in _EXTENSIONS:
        raise CannotGuess(f"lambdad cannot find a handler in {language} code: give --handler")
    candidates = _candidates(sources, language)
    usual = [one for one in candidates if one.module in _MODULES[language]]
    if usual or len(candidates) == 1:
        chosen = (usual or candidates)[0]
        return Choice(chosen.handler, f"found in {chosen.file}")
    if candidates:
        options = " or ".join(f"--handler {one.handler}" for one in candidates[:_LISTED])
        raise CannotGuess(f"more than one function could be the handler: give {options}")
    extensions = ", ".join(f"*{extension}" for extension in _EXTENSIONS[language])
    functions = " or ".join(_FUNCTIONS[language])
    shape = ", and for any function with the parameters (event, context)" if language is Language.PYTHON else ""
    raise CannotGuess(
        f"no handler found: looked for a function named {functions} in {extensions} at the top of the package{shape}. "
        "Give --handler FILE.FUNCTION"
    )


def has_handler(sources: Sources, language: Language, handler: str) -> bool:
    """Whether the file that a handler names is in the package; true where that cannot be told."""
    if language not in _EXTENSIONS:
        return True
    # A module of Python has dots between its packages, or slashes; one of Node.js slashes only.
    module = handler.rpartition(".")[0]
    paths = [module.replace(".", "/"), f"{module.replace('.', '/')}/__init__"]
    paths = paths if language is Language.PYTHON else [module, handler.partition(".")[0]]
    return any(path + extension in sources.names for path in paths for extension in _EXTENSIONS[language])


@dataclass(frozen=True, slots=True)
class _Candidate:
    file: str
    module: str
    function: str

    @property
    def handler(self) -> str:
        return f"{self.module}.{self.function}"


def _modules(sources: Sources, language: Language) -> list[str]:
    """The source files at the top of a package, those with the usual names first."""
    order = _MODULES[language]
    tops = [name for name in sources.names if "/" not in name and name.endswith(_EXTENSIONS[language])]
    ranks = {name: order.index(stem) for name in tops if (stem := os.path.splitext(name)[0]) in order}
    return sorted(tops, key=lambda name: (ranks.get(name, len(order)), name))


def _candidates(sources: Sources, language: Language) -> Sequence[_Candidate]:
    """The functions that may be the handler, one for each file that has any; the likeliest file first."""
    functions_of: Callable[[str], list[str]] = _python_functions if language is Language.PYTHON else _javascript_exports
    return list(_likeliest(sources, language, functions_of))


def _likeliest(sources: Sources, language: Language, functions_of: Callable[[str], list[str]]) -> Iterator[_Candidate]:
    for file in _modules(sources, language):
        text = sources.read(file)[:_SOURCE_BYTES].decode("utf-8", "replace")
        functions = functions_of(text)
        if functions:
            yield _Candidate(file, os.path.splitext(file)[0], functions[0])


def _python_functions(text: str) -> list[str]:
    """What may be a handler in a module: the usual names in order, else functions of an event and a context."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    defined: dict[str, bool] = {}
    for statement in module.body:
        defined.update(_definitions(statement))
    usual = [name for name in _FUNCTIONS[Language.PYTHON] if name in defined]
    # A `main` without the two parameters is a script's.
    usual = [name for name in usual if name != "main" or defined[name]]
    return usual or [name for name, takes_event in defined.items() if takes_event]


def _definitions(statement: ast.stmt) -> dict[str, bool]:
    """The names that a statement defines, and whether each is a function of an event and a context."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parameters = [argument.arg.lstrip("_") for argument in statement.args.posonlyargs + statement.args.args]
            return {statement.name: parameters == ["event", "context"]}
        case ast.Assign():
            return {target.id: False for target in statement.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name: False}
        case ast.ImportFrom():
            return {alias.asname or alias.name: False for alias in statement.names}
        case ast.If() | ast.Try():
            inner = [*statement.body, *statement.orelse]
            return {name: takes for each in inner for name, takes in _definitions(each).items()}
    return {}


_JAVASCRIPT_COMMENTS: Final = re.compile(r"/\*.*?\*/|^\s*//[^\n]*", re.DOTALL | re.MULTILINE)
_JAVASCRIPT_EXPORTS: Final = (
    re.compile(r"\bexports\.([A-Za-z_$][\w$]*)\s*=(?!=)"),
    re.compile(r"\bexport\s+(?:const|let|var|async\s+function\s*\*?|function\s*\*?)\s+([A-Za-z_$][\w$]*)"),
)
_JAVASCRIPT_LISTS: Final = re.compile(r"\b(?:module\.exports\s*=\s*|export\s*)\{([^{}]*)")
_JAVASCRIPT_LISTED: Final = re.compile(
    r"(?:^|,)\s*(?:async\s+)?(?:[A-Za-z_$][\w$]*\s+as\s+)?([A-Za-z_$][\w$]*)(?=\s*(?:[,:(]|$))"
)


def _javascript_exports(text: str) -> list[str]:
    """What a module exports that may be a handler: the usual names in order, else the only one there is."""
    text = _JAVASCRIPT_COMMENTS.sub("", text)
    found = [name for expression in _JAVASCRIPT_EXPORTS for name in expression.findall(text)]
    for inside in _JAVASCRIPT_LISTS.findall(text):
        found += _JAVASCRIPT_LISTED.findall(inside)
    usual = [name for name in _FUNCTIONS[Language.NODEJS] if name in found]
    return usual or (found if len(set(found)) == 1 else [])
