"""The history of a branch or a revision."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.core.ids import AppId, TimelineId
from provisioner.core.model.app import App
from provisioner.core.model.database_state import Status
from provisioner.core.naming import timeline_name


@dataclass(frozen=True, slots=True)
class Timeline:
    """The history of a branch, or of one revision: then ``preview`` is set and ``branch`` is that commit's id.

    ``expire_ms`` is how long it is kept after ``active_at``: None is the app's setting, 0 indefinitely. ``deployed`` is the
    revision that the pre-deploy command last ran for, ``failure`` its error. ``deployed_by`` identifies the command that
    last succeeded, with its inputs. It does not run while the timeline is ``sharing``, which means that it uses another
    timeline's database.

    ``lineage`` tells its branch from others that are called so before or after it (see `provisioner.git.lineage`). ``doubt``
    holds the ids of databases that may be its branch's: it gets none until a person has decided. ``rename_mark`` is what
    registries had before there were lineages.
    """

    id: TimelineId
    app_id: AppId
    branch: bytes
    production: bool
    revision: str
    created_at: int
    gone_at: int | None
    rename_mark: str
    preview: bool = False
    protected: bool = False
    expire_ms: int | None = None
    active_at: int = 0
    deployed: str = ""
    failure: str | None = None
    deployed_by: str = ""
    lineage: str = ""
    doubt: str = ""
    sharing: bool = False

    @property
    def name(self) -> bytes:
        return timeline_name(self.branch, production=self.production, preview=self.preview)

    @property
    def of_branch(self) -> bool:
        """Is it a branch's, and not the production branch's?"""
        return not self.production and not self.preview


def deploy_status(app: App, timeline: Timeline) -> Status | None:
    """What the pre-deploy command makes of a timeline; None where none is run for it."""
    if not app.deploys or timeline.sharing:
        return None
    if timeline.deployed != timeline.revision:
        return Status.PROVISIONING
    return Status.ERROR if timeline.failure is not None else Status.CONNECTED


def timeline_status(statuses: list[Status]) -> Status:
    """One word for a timeline: the status that a user has to know of first. It is connected if all of it is."""
    for status in (Status.ERROR, Status.PROVISIONING, Status.PENDING, Status.ARCHIVED, Status.CONNECTED):
        if status in statuses:
            return status
    return Status.PENDING
