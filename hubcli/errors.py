"""Every error hubcli raises on purpose, and the exit code each one ends a command with.

    HubcliError                     E_FAILED
    ├── UsageError                  E_USAGE          a command line or an argument that makes no sense
    │   ├── RefError                E_REF            a ref that can't be read
    │   └── ExpressionError         E_EXPRESSION     a composition that can't be read or built
    ├── NotFoundError               E_NOT_FOUND      no such adapter, version (E_CONFLICT), index, base, method or file
    │   ├── MethodNotFoundError     E_METHOD         no plugin provides this PEFT method
    │   └── BaseNotFoundError       E_BASE_NOT_FOUND the base model is neither local nor on a hub
    ├── IntegrityError              E_INTEGRITY      bytes or records that are not what was promised
    │   ├── EntryError              E_SCHEMA         an index entry that breaks a rule (E_JSON_*, E_NAME_*, E_PATH_UNSAFE, …)
    │   ├── ContentError            E_HASH           a file with other bytes (E_SIZE, E_COMMIT, E_BAD_HEADER)
    │   ├── SafetensorsError        E_ST_HEADER      a safetensors header beyond the format or our limits (E_ST_*)
    │   └── StoreTamperedError      E_STORE_TAMPERED the store holds something hubcli did not put there
    ├── LockError                   E_LOCK           adapters.lock is missing, stale or from a newer hubcli
    ├── PolicyError                 E_POLICY         understood, and refused (E_ARCHIVE: an archive that is listed, not installed)
    │   ├── YankedError             E_YANKED         (E_QUARANTINED)
    │   ├── UnsafeFormatError       E_FORMAT_UNSAFE  pickle, code, or anything outside the list (E_REMOTE_CODE)
    │   ├── ConfigKeyError          E_CONFIG_KEY     a key of adapter_config.json that is not supported
    │   ├── BaseMismatchError       E_BASE_MISMATCH  the adapter was made for another base
    │   └── PublishError            E_PUBLISH        a folder that can't be published as it is (E_METRIC)
    ├── NetworkError                E_NETWORK        (E_TIMEOUT, E_DENIED, E_RATE_LIMIT, E_GONE)
    │   └── OfflineError            E_OFFLINE        names the switch to unset
    ├── RaceError                   E_RACE           someone else changed in between what was to be changed
    ├── DiskError                   E_DISK           disk full, read-only, not permitted
    │   └── BusyError               E_BUSY           the store, or a running forward, is in use
    ├── PluginError                 E_PLUGIN         a plugin that does not load or breaks the contract
    ├── MissingExtraError           E_EXTRA          an optional dependency is not installed
    └── AdapterError                E_ADAPTER        the tensor side
        ├── NameInUseError          E_NAME_IN_USE    other bytes are loaded under this name
        ├── UnsupportedSiteError    E_SITE           a place in the model that can't carry a delta
        ├── UnsupportedError        E_UNSUPPORTED    something this method or block can't do
        ├── FusedError              E_FUSED          not while the adapter is fused
        ├── ActiveError             E_ACTIVE         not while the adapter is active
        └── WeightsError            E_WEIGHTS        tensors that don't fit (E_RANK, E_WEIGHTS_NONFINITE)

A finer id than the class's own is given per raise; `EXIT_CODES` maps each id to the exit code of the command line.
"""

from __future__ import annotations

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_INTEGRITY = 0, 1, 2, 3, 4
EXIT_LOCK, EXIT_POLICY, EXIT_NETWORK, EXIT_DISK, EXIT_INTERRUPTED = 5, 6, 7, 8, 130

EXIT_CODES: dict[str, int] = {
    "E_FAILED": EXIT_FAILED,
    "E_INTERRUPTED": EXIT_INTERRUPTED,
    "E_RACE": EXIT_FAILED,
    # what was typed
    "E_USAGE": EXIT_USAGE,
    "E_REF": EXIT_USAGE,
    "E_EXPRESSION": EXIT_USAGE,
    "E_CONFIG": EXIT_USAGE,
    "E_RECIPE": EXIT_USAGE,
    "E_DATA": EXIT_USAGE,
    # what was looked for
    "E_NOT_FOUND": EXIT_NOT_FOUND,
    "E_METHOD": EXIT_NOT_FOUND,
    "E_BASE_NOT_FOUND": EXIT_NOT_FOUND,
    "E_CONFLICT": EXIT_NOT_FOUND,
    # entries of an index
    "E_SCHEMA": EXIT_INTEGRITY,
    "E_JSON_SYNTAX": EXIT_INTEGRITY,
    "E_JSON_DUPKEY": EXIT_INTEGRITY,
    "E_JSON_NUMBER": EXIT_INTEGRITY,
    "E_JSON_DEPTH": EXIT_INTEGRITY,
    "E_JSON_SIZE": EXIT_INTEGRITY,
    "E_JSON_TEXT": EXIT_INTEGRITY,
    "E_PATH_UNSAFE": EXIT_INTEGRITY,
    "E_NAME_RESERVED": EXIT_INTEGRITY,
    "E_NAME_CHARSET": EXIT_INTEGRITY,
    "E_NAME_MISMATCH": EXIT_INTEGRITY,
    "E_NAME_COLLISION": EXIT_INTEGRITY,
    "E_IMMUTABLE": EXIT_INTEGRITY,
    "E_VERSION": EXIT_INTEGRITY,
    "E_SNAPSHOT": EXIT_INTEGRITY,
    "E_REQUIRES": EXIT_INTEGRITY,
    "E_CYCLE": EXIT_INTEGRITY,
    "E_SIGNATURE": EXIT_INTEGRITY,
    # bytes
    "E_INTEGRITY": EXIT_INTEGRITY,
    "E_HASH": EXIT_INTEGRITY,
    "E_SIZE": EXIT_INTEGRITY,
    "E_COMMIT": EXIT_INTEGRITY,
    "E_BAD_HEADER": EXIT_INTEGRITY,
    "E_ST_HEADER": EXIT_INTEGRITY,
    "E_ST_LIMIT": EXIT_INTEGRITY,
    "E_ST_NAME": EXIT_INTEGRITY,
    "E_ST_DUPKEY": EXIT_INTEGRITY,
    "E_ST_SHAPE": EXIT_INTEGRITY,
    "E_ST_LAYOUT": EXIT_INTEGRITY,
    "E_STORE_TAMPERED": EXIT_INTEGRITY,
    # the lock file
    "E_LOCK": EXIT_LOCK,
    # policy
    "E_POLICY": EXIT_POLICY,
    "E_OWNER": EXIT_POLICY,
    "E_YANKED": EXIT_POLICY,
    "E_QUARANTINED": EXIT_POLICY,
    "E_ARCHIVE": EXIT_POLICY,
    "E_FORMAT_UNSAFE": EXIT_POLICY,
    "E_REMOTE_CODE": EXIT_POLICY,
    "E_CONFIG_KEY": EXIT_POLICY,
    "E_BASE_MISMATCH": EXIT_POLICY,
    "E_PUBLISH": EXIT_POLICY,
    "E_METRIC": EXIT_POLICY,
    # network
    "E_NETWORK": EXIT_NETWORK,
    "E_TIMEOUT": EXIT_NETWORK,
    "E_DENIED": EXIT_NETWORK,
    "E_RATE_LIMIT": EXIT_NETWORK,
    "E_GONE": EXIT_NETWORK,
    "E_OFFLINE": EXIT_NETWORK,
    # disk
    "E_DISK": EXIT_DISK,
    "E_BUSY": EXIT_DISK,
    # plugins and extras
    "E_PLUGIN": EXIT_FAILED,
    "E_EXTRA": EXIT_FAILED,
    # tensors
    "E_ADAPTER": EXIT_FAILED,
    "E_NAME_IN_USE": EXIT_FAILED,
    "E_SITE": EXIT_FAILED,
    "E_UNSUPPORTED": EXIT_FAILED,
    "E_FUSED": EXIT_FAILED,
    "E_ACTIVE": EXIT_FAILED,
    "E_WEIGHTS": EXIT_INTEGRITY,
    "E_WEIGHTS_NONFINITE": EXIT_INTEGRITY,
    "E_RANK": EXIT_INTEGRITY,
}


class HubcliError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what went wrong, one line, with expected and found.
        cause: why, one line, where the reason is known and not in the message.
        hint: what to do about it, one line.
        id: a finer error id than the class's; a key of `EXIT_CODES`.

    Where several things are wrong at once, `parts` has each (id, message, hint) and `summary` what leads the list.
    """

    default_id = "E_FAILED"
    summary: str = ""
    parts: tuple[dict[str, str | None], ...] = ()

    def __init__(self, message: str, *, cause: str | None = None, hint: str | None = None, id: str | None = None):
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.hint = hint
        self.id = id or self.default_id

    @property
    def exit_code(self) -> int:
        """The exit code a command ends with when this error reaches it."""
        return EXIT_CODES[self.id]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.cause, self.hint, self.id)


def _rebuild(cls: type[HubcliError], message: str, cause: str | None, hint: str | None, id: str) -> HubcliError:
    return cls(message, cause=cause, hint=hint, id=id)


class UsageError(HubcliError):
    """An argument that makes no sense."""

    default_id = "E_USAGE"


class RefError(UsageError):
    """A ref that can't be read."""

    default_id = "E_REF"


class ExpressionError(UsageError):
    """A composition that can't be read or built."""

    default_id = "E_EXPRESSION"


class NotFoundError(HubcliError):
    """No such adapter, version, index or file."""

    default_id = "E_NOT_FOUND"


class MethodNotFoundError(NotFoundError):
    """No plugin provides this PEFT method."""

    default_id = "E_METHOD"


class BaseNotFoundError(NotFoundError):
    """The base model is neither on this machine nor on a hub that can be reached."""

    default_id = "E_BASE_NOT_FOUND"


class IntegrityError(HubcliError):
    """Bytes or records that are not what was promised."""

    default_id = "E_INTEGRITY"


class EntryError(IntegrityError):
    """An index entry that breaks a rule; the message names file, field, expected and found."""

    default_id = "E_SCHEMA"


class ContentError(IntegrityError):
    """A file whose bytes, size, commit or headers are not the promised ones."""

    default_id = "E_HASH"


class SafetensorsError(IntegrityError):
    """A safetensors header that breaks the format or goes beyond our limits."""

    default_id = "E_ST_HEADER"


class StoreTamperedError(IntegrityError):
    """The store holds something hubcli did not put there."""

    default_id = "E_STORE_TAMPERED"


class LockError(HubcliError):
    """adapters.lock is missing, stale or written by a newer hubcli."""

    default_id = "E_LOCK"


class PolicyError(HubcliError):
    """Understood, and refused."""

    default_id = "E_POLICY"


class YankedError(PolicyError):
    """The release was withdrawn."""

    default_id = "E_YANKED"


class UnsafeFormatError(PolicyError):
    """A file format that can run code, or is on no list."""

    default_id = "E_FORMAT_UNSAFE"


class ConfigKeyError(PolicyError):
    """A key of adapter_config.json that is not supported."""

    default_id = "E_CONFIG_KEY"


class BaseMismatchError(PolicyError):
    """The adapter was made for another base."""

    default_id = "E_BASE_MISMATCH"


class PublishError(PolicyError):
    """A folder that can't be published as it is. The id is the first finding's; `findings` are all, a line each."""

    default_id = "E_PUBLISH"
    findings: tuple[str, ...] = ()


class NetworkError(HubcliError):
    """A server that can't be reached, refuses, or does not answer in time."""

    default_id = "E_NETWORK"


class OfflineError(NetworkError):
    """The network is needed and switched off; the message names the switch."""

    default_id = "E_OFFLINE"


class RaceError(HubcliError):
    """Someone else changed in between what was to be changed; nothing of theirs was overwritten."""

    default_id = "E_RACE"


class DiskError(HubcliError):
    """Disk full, read-only or not permitted."""

    default_id = "E_DISK"


class BusyError(DiskError):
    """The store, or the model's running forward, is in use."""

    default_id = "E_BUSY"


class PluginError(HubcliError):
    """A plugin that does not load or breaks the contract."""

    default_id = "E_PLUGIN"


class MissingExtraError(HubcliError):
    """An optional dependency is not installed; the hint says which extra brings it."""

    default_id = "E_EXTRA"


class AdapterError(HubcliError):
    """Base of the errors of the tensor side."""

    default_id = "E_ADAPTER"


class NameInUseError(AdapterError):
    """Other bytes are loaded under this name."""

    default_id = "E_NAME_IN_USE"


class UnsupportedSiteError(AdapterError):
    """A place in the model that can't carry a delta."""

    default_id = "E_SITE"


class UnsupportedError(AdapterError):
    """Something this method, block or model can't do."""

    default_id = "E_UNSUPPORTED"


class FusedError(AdapterError):
    """Not possible while a composition is fused into the model."""

    default_id = "E_FUSED"


class ActiveError(AdapterError):
    """Not possible while the adapter is active."""

    default_id = "E_ACTIVE"


class WeightsError(AdapterError):
    """Tensors that don't fit their config, their sites or their base."""

    default_id = "E_WEIGHTS"
