"""How objects are pickled that pickle refuses, or would keep too much of: locks, keys, executions, parameters."""

import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from types import FunctionType
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

ABORTED_CAUSE: Final = "The process that ran this execution has ended."
# Parameters that AWS publishes; moto loads them when they are asked for, and users cannot have names like theirs.
PUBLIC_PARAMETERS: Final = "/aws/service/"
_STEP_FUNCTIONS: Final = "moto.stepfunctions.parser.backend.execution"

# What a reducer returns; NotImplemented leaves it to pickle.
Reduction = Any


def _condition() -> threading.Condition:
    return threading.Condition()


def _nested_dict() -> defaultdict[Any, Any]:
    return defaultdict(dict)


# Functions within functions have no name to pickle them by. These are those that moto keeps in its state.
_NAMED_AGAIN: Final[dict[str, Callable[[], Any]]] = {
    "moto.ssm.models:SimpleSystemManagerBackend.__init__.<locals>.<lambda>": _nested_dict,
}


def load_function(name: str) -> Callable[[], Any]:
    """What stands for a function within a function."""
    return _NAMED_AGAIN[name]


def load_private_key(der: bytes) -> Any:
    """A private key as `cryptography` has it."""
    return serialization.load_der_private_key(der, None)


def load_public_key(der: bytes) -> Any:
    """A public key as `cryptography` has it."""
    return serialization.load_der_public_key(der)


def make(kind: Any) -> Any:
    """An instance whose `__init__` does not run."""
    return kind.__new__(kind)


def set_dict(collection: Any, state: tuple[dict[str, Any], dict[Any, Any]]) -> None:
    """Fill one of moto's own dicts."""
    vars(collection).update(state[0])
    dict.update(collection, state[1])


def load_parameters(account_id: str, region_name: str, parameters: dict[str, Any]) -> Any:
    """The parameters of Systems Manager in an account and region."""
    from moto.ssm.models import ParameterDict

    loaded = ParameterDict(account_id, region_name)
    dict.update(loaded, parameters)
    return loaded


def load_execution(kind: Any, state: dict[str, Any], history: list[Any]) -> Any:
    """An execution of Step Functions that has ended; one that ran when it was written is ABORTED: nothing runs it."""
    from moto.stepfunctions.parser.api import ExecutionStatus

    execution = make(kind)
    execution.__dict__.update(state)
    if execution.exec_status == ExecutionStatus.RUNNING:
        execution.exec_status = ExecutionStatus.ABORTED
        execution.stop_date = datetime.now(tz=UTC)
        execution.cause = ABORTED_CAUSE
    execution.exec_worker = EndedWorker(history)
    return execution


class EndedWorker:
    """Stands for the thread of an execution that has ended: it has the history, and no task to answer."""

    def __init__(self, history: list[Any]) -> None:
        from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import map_run_record
        from moto.stepfunctions.parser.asl.eval.callback.callback import CallbackPoolManager
        from moto.stepfunctions.parser.asl.eval.event.event_manager import EventManager

        self.env = self
        self.event_manager = EventManager()
        self.event_manager._history_event_list.extend(history)
        self.callback_pool_manager = CallbackPoolManager(activity_store={})
        self.map_run_record_pool_manager = map_run_record.MapRunRecordPoolManager()

    def stop(self, stop_date: Any, error: str | None, cause: str | None) -> None:
        """There is nothing to stop."""


def _reduce_function(function: FunctionType) -> Reduction:
    name = f"{function.__module__}:{function.__qualname__}"
    return (load_function, (name,)) if name in _NAMED_AGAIN else NotImplemented


def _reduce_dict(collection: Any) -> Reduction:
    # pickle would ask the methods that moto overrides: S3's dict of keys shows only the last version of each.
    state = vars(collection), dict(dict.items(collection))
    return make, (type(collection),), state, None, None, set_dict


def _reduce_parameters(parameters: Any) -> Reduction:
    own = {name: versions for name, versions in dict.items(parameters) if not name.startswith(PUBLIC_PARAMETERS)}
    return load_parameters, (parameters.account_id, parameters.region_name, own)


def _reduce_execution(execution: Any) -> Reduction:
    state = dict(vars(execution))
    worker = state.pop("exec_worker", None)
    environment = None if worker is None else worker.env
    history = [] if environment is None else list(environment.event_manager.get_event_history())
    return load_execution, (type(execution), state, history)


_REDUCERS: Final[dict[str, Callable[[Any], Reduction]]] = {
    "_thread.lock": lambda _: (threading.Lock, ()),
    "_thread.RLock": lambda _: (threading.RLock, ()),
    "threading.Condition": lambda _: (_condition, ()),
    "threading.Event": lambda _: (threading.Event, ()),
    "builtins.function": _reduce_function,
    "moto.ssm.models.ParameterDict": _reduce_parameters,
    f"{_STEP_FUNCTIONS}.Execution": _reduce_execution,
    f"{_STEP_FUNCTIONS}.SyncExecution": _reduce_execution,
}
# By class, as looking up its name each time would take longer.
_known: dict[type, Callable[[Any], Reduction] | None] = {}


def reduction_of(obj: Any) -> Reduction:
    """What `reducer_override` of a pickler returns for an object."""
    kind = type(obj)
    if kind not in _known:
        _known[kind] = _REDUCERS.get(f"{kind.__module__}.{kind.__qualname__}") or _reducer_of_kind(kind)
    reducer = _known[kind]
    return NotImplemented if reducer is None else reducer(obj)


def _reducer_of_kind(kind: type) -> Callable[[Any], Reduction] | None:
    if issubclass(kind, dict) and not issubclass(kind, defaultdict) and kind.__module__.startswith("moto."):
        return _reduce_dict
    if not kind.__module__.startswith("cryptography."):
        return None
    if hasattr(kind, "private_bytes"):
        return lambda key: (
            load_private_key,
            (
                key.private_bytes(
                    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            ),
        )
    if hasattr(kind, "public_bytes"):
        return lambda key: (
            load_public_key,
            (key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),),
        )
    return None
