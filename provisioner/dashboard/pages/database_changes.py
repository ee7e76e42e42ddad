"""Changes of one database: each as `provisioner database` does it."""

from __future__ import annotations

from provisioner.core.model import App, Database
from provisioner.dashboard.pages.database import found
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.dashboard.web.forms import RequestedChange
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations import archive as holding
from provisioner.operations import retry
from provisioner.operations.proposal import ProgressReporter
from provisioner.operations.target import of_database


def archive(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, database, page = meant(visit)
    proposal = holding.archive(visit.registry, of_database(visit.registry, app, database))
    offer = Offer("Undo", f"{page}/recover", {})
    return RequestedChange(f"Archive {database.name}", proposal, page, lambda _: offer)


def recover(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, database, page = meant(visit)
    return RequestedChange(
        f"Recover {database.name}", holding.recover(visit.registry, of_database(visit.registry, app, database)), page
    )


def purge(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, database, _page = meant(visit)
    proposal = holding.purge(visit.registry, of_database(visit.registry, app, database))
    return RequestedChange(f"Delete {database.name}", proposal, f"/apps/{app.slug}")


def fix(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, database, page = meant(visit)
    timeline = visit.registry.timeline(database.timeline_id)
    return RequestedChange(f"Fix {database.name}", retry.databases(visit.registry, app, timeline, [database]), page)


def meant(visit: PageContext) -> tuple[App, Database, str]:
    """The database of the path, its app, and its page."""
    database, _, timeline = found(visit)
    app = visit.registry.app(timeline.app_id)
    if app is None:
        raise Missing(f"the app of {database.name} was removed", "Add it again: provisioner init")
    return app, database, f"/databases/{database.id}"
