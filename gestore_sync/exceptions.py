"""Everything that gestore_sync raises on purpose. A message names the object, the link and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from gestore_sync.plan import Report
    from gestore_sync.refs import Ref


class GestoreSyncError(Exception):
    """gestore_sync could not do what was asked."""

    report: Report | None = None

    def __init__(self, message: str = "", *, report: Report | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        self.report = report


class UnknownObject(GestoreSyncError):
    """No such app, model or object."""


class UnknownLink(GestoreSyncError):
    """No such link between models."""


class WrongDatabase(GestoreSyncError):
    """The databases that were named cannot be source and target."""


class SchemaMismatch(GestoreSyncError):
    """A table or column that is needed does not exist."""


class LinkCycle(GestoreSyncError):
    """Required links form a cycle that the target database cannot write."""


class UnresolvedConflicts(GestoreSyncError):
    """The plan has conflicts that no policy resolves; nothing was written."""


class WriteFailed(GestoreSyncError):
    """The target refused a row; nothing was written. ``failure`` says which, where that is known.

    ``ref``: the object of the source; ``target_ref``: the row of the target, where only that is known.
    """

    failure: dict[str, Any] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        failure: dict[str, Any] | None = None,
        ref: Ref | None = None,
        target_ref: Ref | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.ref = ref
        self.target_ref = target_ref


class UnreadableValue(GestoreSyncError):
    """A database holds a value that its field cannot read. ``ref``: the object, ``using``: of which database."""

    def __init__(self, message: str = "", *, ref: Ref | None = None, using: str | None = None) -> None:
        super().__init__(message)
        self.ref = ref
        self.using = using


class HookFailed(GestoreSyncError):
    """What was written is committed; then a hook of the application, which runs after the commit, failed.

    ``using``: the database that has committed.
    """

    def __init__(self, message: str = "", *, using: str | None = None) -> None:
        super().__init__(message)
        self.using = using


class NotVerified(GestoreSyncError):
    """A push is done, and what it has written could not be compared with the source."""


class PartlyWritten(GestoreSyncError):
    """A run in parts was broken off: what it had committed before stays, and the next run goes on from there."""


class NotArrived(GestoreSyncError):
    """The target does not have all that a move would delete at the source; nothing was deleted."""


class NotRestored(GestoreSyncError):
    """A value that lost a conflict cannot be restored: the row has changed since, or cannot have it any more."""


class BundleError(GestoreSyncError):
    """A file cannot be imported: it is no bundle, broken, of a newer format, or does not fit this project."""


class UntrustedBundle(BundleError):
    """A bundle is not signed, or its signature does not match: it may have been changed."""


class PlanError(GestoreSyncError):
    """A plan file cannot be applied: it is none, broken, was edited, is of other databases, or lacks what it needs."""


class PlanOutdated(PlanError):
    """An object of a plan file has changed since the plan was written; nothing was written."""


class LocationUnavailable(GestoreSyncError):
    """A file cannot be read or written where it was said to be."""


class NotConfirmed(GestoreSyncError):
    """What was to be deleted was not confirmed, or is no longer what was shown; nothing was deleted."""


class FilesLeft(GestoreSyncError):
    """Rows were deleted, but stored files of theirs could not be."""


class OutOfStep(GestoreSyncError):
    """What both sides know of each other's last run does not match: one was restored from a backup, or is a copy."""


class DatabaseUnavailable(GestoreSyncError):
    """The connection to a database was lost."""


class WrongSetting(GestoreSyncError, ImproperlyConfigured):
    """A setting, or an option, has a value that gestore_sync cannot work with."""
