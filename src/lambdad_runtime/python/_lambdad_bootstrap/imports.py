"""Where the function's code is imported from, and how its handler is found.

https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import builtins
import os
import sys
from _frozen_importlib_external import PathFinder

from .faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Callable, Mapping, Sequence

# What the runtime of AWS has loaded before the function's code. Here these modules wait until somebody needs them, so
# a file of the same name in the package must not take their place: on AWS it could not, and logging or error reports
# would break. `test_environment` checks the list against what each interpreter really loads.
_NAMES = """
    __future__ _collections_abc _colorize _decimal _heapq _json _opcode _opcode_metadata _weakrefset abc annotationlib
    ast codecs codeop collections contextlib copy copyreg dataclasses decimal dis enum functools genericpath heapq
    importlib inspect io itertools json keyword linecache logging numbers opcode operator os posixpath re reprlib
    select sre_compile sre_constants sre_parse stat string textwrap threading token tokenize traceback types
    unicodedata warnings weakref
"""
STANDARD_MODULES = frozenset(_NAMES.split())


class StandardLibraryFinder:
    """Finds `STANDARD_MODULES` in the standard library only, and runs something after the first import of one."""

    def __init__(self, standard_path: Sequence[str], after_import: Mapping[str, Callable[[], None]]) -> None:
        self._path = list(standard_path)
        self._after_import = dict(after_import)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The protocol of `sys.meta_path`."""
        if fullname not in STANDARD_MODULES:
            return None
        spec = PathFinder.find_spec(fullname, self._path, target)
        if spec is not None and spec.loader is not None and fullname in self._after_import:
            self._watch(spec.loader, fullname)
        return spec

    def _watch(self, loader: Any, fullname: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # what the loader shows afterwards is its own
            execute(module)
            after = self._after_import.pop(fullname, None)
            if after is not None:
                after()

        loader.exec_module = exec_module


def prepare_interpreter(sdk_folders: Sequence[str], after_import: Mapping[str, Callable[[], None]]) -> None:
    """Set up module search, arguments and built-ins as the function finds them on AWS.

    `after_import` names modules of the standard library and what to do once they are loaded.
    """
    standard_path = list(sys.path)
    waiting = dict(after_import)
    for name in after_import:
        if name in sys.modules:
            waiting.pop(name)()
    finder: Any = StandardLibraryFinder(standard_path, waiting)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)
    # Where functions have no root of their own, their layers are elsewhere.
    layers = os.environ.pop("_LAMBDAD_LAYERS", "/opt")
    sys.path[:] = search_path(os.environ, standard_path, sdk_folders, layers)
    script = os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime") + "/bootstrap.py"
    sys.argv[:] = [script]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [sys.executable, script]
    # `python -S` leaves out the two built-ins of `site` that programs use.
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))


def search_path(
    environ: Mapping[str, str], standard_path: Sequence[str], sdk_folders: Sequence[str], layers: str
) -> list[str]:
    """`sys.path` of the function: its package, its layers, PYTHONPATH, the standard library, the SDK."""
    version = "python%d.%d" % sys.version_info[:2]
    folders = [
        environ.get("LAMBDA_TASK_ROOT", ""),
        f"{layers}/python/lib/{version}/site-packages",
        f"{layers}/python",
        *environ.get("PYTHONPATH", "").split(":"),
        *standard_path,
        *sdk_folders,
    ]
    return list(dict.fromkeys(filter(None, folders)))  # each once, where it stands first


def load_handler(handler: str) -> Callable[[Any, Any], Any]:
    """Import the module of `module.function` (folders by slash or dot) and return the function.

    Raises Fault for a handler that is not there, and whatever else the module raises.
    """
    try:
        module_name, function_name = handler.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': {error}") from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise Fault("Runtime.BuiltInModuleConflict", message)
    name = module_name.replace("/", ".")
    try:
        if name.startswith("."):
            raise TypeError(f"the 'package' argument is required to perform a relative import for {name!r}")
        __import__(name)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", message, trace) from None
    try:
        function: Callable[[Any, Any], Any] = getattr(sys.modules[name], function_name)
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise Fault("Runtime.HandlerNotFound", message) from None
    return function
