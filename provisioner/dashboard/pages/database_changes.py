"""What is done to one database: each as `provisioner database` does it."""

from __future__ import annotations

from provisioner.dashboard.changing import Asked
from provisioner.dashboard.one_database import found
from provisioner.dashboard.sessions import Offer
from provisioner.dashboard.visiting import Missing, Visit
from provisioner.model import App, Database
from provisioner.operations import fixing, holding
from provisioner.operations.proposal import Told


def archive(visit: Visit, _: Told) -> Asked:
    app, database, page = meant(visit)
    proposal = holding.archive(visit.registry, app, database)
    offer = Offer("Bring it back", f"{page}/recover", {})
    return Asked(f"Archive {database.name}", proposal, page, lambda _: offer)


def recover(visit: Visit, _: Told) -> Asked:
    app, database, page = meant(visit)
    return Asked(f"Recover {database.name}", holding.recover(visit.registry, app, database), page)


def purge(visit: Visit, _: Told) -> Asked:
    app, database, _page = meant(visit)
    return Asked(f"Delete {database.name}", holding.purge(visit.registry, app, database), f"/apps/{app.slug}")


def fix(visit: Visit, _: Told) -> Asked:
    app, database, page = meant(visit)
    return Asked(f"Fix {database.name}", fixing.database(visit.registry, app, database), page)


def meant(visit: Visit) -> tuple[App, Database, str]:
    """The database of the path, its app, and its page."""
    database, _, timeline = found(visit)
    app = visit.registry.app(timeline.app_id)
    if app is None:
        raise Missing(f"the app of {database.name} was removed", "Add it again: provisioner init")
    return app, database, f"/databases/{database.id}"
