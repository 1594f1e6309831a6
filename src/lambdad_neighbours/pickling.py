"""Pickling what moto keeps in memory: its backends, one service at a time.

A service's state is the `__dict__` of each of its backends (one per account and region). Whatever in it belongs to
another service is written as a reference and found again when it is loaded: backends themselves, and models such as the
S3 bucket that a CloudFormation stack has made. AWS's own managed policies and public parameters are left out, and made
anew.
"""

import importlib
import logging
import pickle
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple

from moto.core.base_backend import AccountSpecificBackend, BackendDict, BaseBackend
from moto.core.common_models import BaseModel

from lambdad_neighbours.reductions import Reduction, reduction_of

PROTOCOL: Final = 5
# How many values of another service are looked through for a model of its before that is written as a copy.
SEARCH_LIMIT: Final = 20_000
_DICT_FIELDS: Final = frozenset({"backend", "service_name", "_use_boto3_regions", "_additional_regions", "_id"})

# How a model is reached from its backend: by an attribute's name, or by a key or an index.
Path = tuple[tuple[str, Any], ...]

logger = logging.getLogger(__name__)


class UnknownReference(pickle.UnpicklingError):
    """A reference in a state that leads nowhere: to a class that is not there, or of a kind that is not known."""


class BackendKey(NamedTuple):
    """Which backend of moto: the module and name of its class, the account, and the region or partition."""

    module: str
    name: str
    account_id: str
    region: str


def package_of(kind: type) -> str:
    """The service that a class of moto belongs to, as moto names its package: "s3" of `moto.s3.models.FakeKey`."""
    parts = kind.__module__.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "moto" else ""


class Registry:
    """Every `BackendDict` of moto, from its creation on, by the class of its backends."""

    def __init__(self, before_use: Callable[[str], None]) -> None:
        """`before_use(package)` is called whenever a service's backends are looked at: it has to be quick."""
        self._before_use = before_use
        self._dicts: dict[tuple[str, str], BackendDict[Any]] = {}
        self._by_package: defaultdict[str, list[BackendDict[Any]]] = defaultdict(list)

    def add(self, backends: BackendDict[Any]) -> None:
        """Takes note of a new one."""
        kind = backends.backend
        self._dicts[kind.__module__, kind.__qualname__] = backends
        self._by_package[package_of(kind)].append(backends)

    def used(self, backends: BackendDict[Any]) -> None:
        """Is called before anything is read from it."""
        self._before_use(package_of(backends.backend))

    def of_package(self, package: str) -> list[BackendDict[Any]]:
        """Those of one service: mostly one, none when its modules are not imported."""
        return self._by_package.get(package, [])

    def dict_of(self, module: str, name: str) -> BackendDict[Any]:
        """The one whose backends have this class; its module is imported. Raises UnknownReference."""
        importlib.import_module(module)
        backends = self._dicts.get((module, name))
        if backends is None:
            raise UnknownReference(f"{module} has no backends of class {name}")
        return backends

    def place(self, key: BackendKey) -> BaseBackend:
        """Makes an empty backend, whose `__init__` has not run, and puts it in its place."""
        backends = self.dict_of(key.module, key.name)
        instance: BaseBackend = backends.backend.__new__(backends.backend)
        BaseBackend.__init__(instance, key.region, key.account_id)
        dict.__setitem__(backends[key.account_id], key.region, instance)
        return instance

    def key_of(self, backend: BaseBackend) -> BackendKey | None:
        """How this backend is found again; None if it is not one of those in use."""
        kind = type(backend)
        backends = self._dicts.get((kind.__module__, kind.__qualname__))
        account: Any = {} if backends is None else dict.get(backends, backend.account_id, {})
        known: Any = dict.get(account, backend.region_name)
        if known is not backend:
            return None
        return BackendKey(kind.__module__, kind.__qualname__, backend.account_id, backend.region_name)


def backends_of(backends: BackendDict[Any]) -> Iterator[tuple[str, str, BaseBackend]]:
    """Account, region and backend of all that are in use, without making any or loading anything."""
    for account_id, by_region in list(dict.items(backends)):
        for region, backend in list(dict.items(by_region)):
            yield account_id, region, backend


@dataclass(frozen=True, slots=True)
class State:
    """A service's state as it is pickled; `keys` and `states` belong together in order."""

    keys: tuple[BackendKey, ...]
    states: list[dict[str, Any]]
    extras: list[tuple[str, str, dict[str, Any]]]


def state_of(registry: Registry, package: str) -> State:
    """What there is to be written of a service."""
    keys, states, extras = [], [], []
    for backends in registry.of_package(package):
        kind = backends.backend
        for account_id, region, backend in backends_of(backends):
            keys.append(BackendKey(kind.__module__, kind.__qualname__, account_id, region))
            states.append(_without_aws_managed(package, backend))
        own = {name: value for name, value in vars(backends).items() if name not in _DICT_FIELDS}
        if own:
            extras.append((kind.__module__, kind.__qualname__, own))
    return State(tuple(keys), states, extras)


def dump(registry: Registry, package: str, file: IO[bytes]) -> None:
    """Writes a service's state to `file`. Raises what pickle raises when something in it cannot be pickled."""
    state = state_of(registry, package)
    pickler = StatePickler(file, registry, package)
    pickler.dump([tuple(key) for key in state.keys])
    pickler.clear_memo()
    pickler.dump((state.states, state.extras))


def load(registry: Registry, package: str, file: IO[bytes], *, fill_in: bool = False) -> None:
    """Makes the backends that `dump` has written. With `fill_in` (the state of another version of moto) what the state
    does not have comes from a new backend. Raises whatever a damaged or unfitting state makes pickle raise; the service
    is then to be emptied with `forget`."""
    keys = [BackendKey(*key) for key in pickle.Unpickler(file).load()]
    backends = [registry.place(key) for key in keys]
    states, extras = StateUnpickler(file, registry).load()
    for backend, state in zip(backends, states, strict=True):
        if fill_in:
            type(backend).__init__(backend, backend.region_name, backend.account_id)
        backend.__dict__.update(state)
        _with_aws_managed(package, backend)
    for module, name, own in extras:
        registry.dict_of(module, name).__dict__.update(own)


def forget(registry: Registry, package: str) -> None:
    """Takes a service's backends away; new and empty ones are made when they are asked for."""
    for backends in registry.of_package(package):
        dict.clear(backends)


# What AWS manages, and every account has: made anew instead of kept.


def _without_aws_managed(package: str, backend: BaseBackend) -> dict[str, Any]:
    state = dict(vars(backend))
    if package == "iam" and "aws_managed_policies" in state:
        aws_managed = state.pop("aws_managed_policies")
        theirs = {id(policy) for policy in aws_managed}
        state["managed_policies"] = {a: p for a, p in state["managed_policies"].items() if id(p) not in theirs}
        state["_attachment_counts"] = {p.arn: p.attachment_count for p in aws_managed if p.attachment_count}
    return state


def _with_aws_managed(package: str, backend: BaseBackend) -> None:
    state = vars(backend)
    if package == "iam" and "_attachment_counts" in state:
        policies = _aws_policies(backend)
        for arn, count in state.pop("_attachment_counts").items():
            if arn in policies:
                policies[arn].attachment_count = count
        state["aws_managed_policies"] = list(policies.values())
        state["managed_policies"] = {**policies, **state["managed_policies"]}
        state.pop("_aws_policies", None)


def _aws_policies(backend: Any) -> dict[str, Any]:
    state = vars(backend)
    if "aws_managed_policies" in state:
        return {policy.arn: policy for policy in state["aws_managed_policies"]}
    known: dict[str, Any] | None = state.get("_aws_policies")
    if known is None:
        known = {policy.arn: policy for policy in backend._init_aws_policies()}
        state["_aws_policies"] = known
    return known


# References to what another service has.


class _Models:
    """Finds models in the backends of one service; a search goes on where the last one has ended.

    What is in dicts and lists of a backend comes first, however deep, and then what models have in their attributes.
    """

    def __init__(self, registry: Registry, package: str) -> None:
        self._found: dict[int, tuple[BackendKey, Path]] = {}
        self._collections: deque[tuple[Any, BackendKey, Path]] = deque()
        self._others: deque[tuple[Any, BackendKey, Path]] = deque()
        self._looked_at = 0
        for backends in registry.of_package(package):
            for _, _, backend in backends_of(backends):
                key = registry.key_of(backend)
                if key is not None:
                    self._look_into(backend, key, ())

    def find(self, model: object) -> tuple[BackendKey, Path] | None:
        """The backend that a model is in, and how it is reached from there; None if it is not found."""
        while id(model) not in self._found and self._looked_at < SEARCH_LIMIT:
            left = self._collections or self._others
            if not left:
                break
            self._look_into(*left.popleft())
        return self._found.get(id(model))

    def _look_into(self, value: Any, key: BackendKey, path: Path) -> None:
        for step, below in _values_in(value):
            self._looked_at += 1
            if id(below) in self._found or isinstance(below, _REFERENCED):
                continue
            is_collection = isinstance(below, _COLLECTIONS)
            if is_collection or (hasattr(below, "__dict__") and package_of(type(below))):
                longer = (*path, step)
                self._found[id(below)] = key, longer
                (self._collections if is_collection else self._others).append((below, key, longer))


_COLLECTIONS: Final = (dict, list, tuple)
_REFERENCED: Final = (BaseBackend, BackendDict, AccountSpecificBackend)


def _values_in(value: Any) -> Iterator[tuple[tuple[str, Any], Any]]:
    if isinstance(value, dict):
        # Past overridden methods: some of moto's dicts make what is not there, or show only the last version.
        for name, below in list(dict.items(value)):
            yield ("item", name), below
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield ("item", index), below
    else:
        for name, below in list(vars(value).items()):
            yield ("attribute", name), below


def _follow(backend: BaseBackend, path: Path) -> Any:
    value: Any = backend
    for step, name in path:
        if step == "attribute":
            value = vars(value)[name]
        else:
            value = dict.__getitem__(value, name) if isinstance(value, dict) else value[name]
    return value


class StatePickler(pickle.Pickler):
    """Pickles the state of one service, with references to what belongs to others and to what AWS manages."""

    def __init__(self, file: IO[bytes], registry: Registry, package: str) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._registry = registry
        self._package = package
        self._models: dict[str, _Models] = {}
        self._referenced: dict[type, Callable[[Any], tuple[Any, ...] | None] | None] = {}

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """The reference that is written in the place of an object; None to write the object."""
        kind = type(obj)
        try:
            reference = self._referenced[kind]
        except KeyError:
            reference = self._referenced[kind] = self._reference(kind)
        return None if reference is None else reference(obj)

    def reducer_override(self, obj: Any) -> Reduction:
        """Pickling of what pickle cannot do by itself: locks, keys, functions within functions."""
        return reduction_of(obj)

    def _reference(self, kind: type) -> Callable[[Any], tuple[Any, ...] | None] | None:
        if issubclass(kind, BaseBackend):
            return self._backend
        if issubclass(kind, BackendDict):
            return lambda obj: ("backends", obj.backend.__module__, obj.backend.__qualname__)
        if issubclass(kind, AccountSpecificBackend):
            return lambda obj: ("account", obj.backend.__module__, obj.backend.__qualname__, obj.account_id)
        package = package_of(kind)
        if package == "iam" and kind.__name__ == "AWSManagedPolicy":
            return self._aws_policy
        if issubclass(kind, BaseModel) and package != self._package and self._registry.of_package(package):
            return self._model
        return None

    def _backend(self, obj: BaseBackend) -> tuple[Any, ...] | None:
        key = self._registry.key_of(obj)
        return None if key is None else ("backend", *key)

    def _aws_policy(self, obj: Any) -> tuple[Any, ...] | None:
        for backends in self._registry.of_package("iam"):
            backend = dict.get(dict.get(backends, obj.account_id, {}), obj.partition)
            if backend is not None and vars(backend).get("managed_policies", {}).get(obj.arn) is obj:
                key = self._registry.key_of(backend)
                return None if key is None else ("aws policy", *key, obj.arn)
        return None

    def _model(self, obj: BaseModel) -> tuple[Any, ...] | None:
        package = package_of(type(obj))
        if package not in self._models:
            self._models[package] = _Models(self._registry, package)
        found = self._models[package].find(obj)
        return None if found is None else ("model", *found[0], found[1])


class StateUnpickler(pickle.Unpickler):
    """Loads what StatePickler has written."""

    def __init__(self, file: IO[bytes], registry: Registry) -> None:
        super().__init__(file)
        self._registry = registry

    def persistent_load(self, reference: Any) -> Any:
        """What a reference leads to; the service that has it is loaded first. None for a model that is gone."""
        kind, module, name, *rest = reference
        backends = self._registry.dict_of(module, name)
        if kind == "backends":
            return backends
        account = backends[rest[0]]
        if kind == "account":
            return account
        backend = account[rest[1]]
        if kind == "backend":
            return backend
        if kind == "aws policy":
            return _aws_policies(backend).get(rest[2])
        if kind == "model":
            try:
                return _follow(backend, rest[2])
            except (KeyError, IndexError, TypeError):
                # Services are written one after the other, so one may know of more than another still has.
                logger.warning("a resource of %s that another service refers to is gone: %s", module, rest[2])
                return None
        raise UnknownReference(f"an unknown kind of reference: {kind}")
