"""The settings of an app: each shown with the command that changes it; retention, and how the app runs, changed here."""

from __future__ import annotations

import os
from collections.abc import Mapping

from starlette.responses import Response

from provisioner.core.durations import lasting, milliseconds, written
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.dashboard.pages.assignments import of_app
from provisioner.dashboard.pages.hosting import run_form
from provisioner.dashboard.pages.suggest import app_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, RequestedChange, filling, form_of
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations import apps
from provisioner.operations.proposal import ProgressReporter
from provisioner.reconcile.changes.command_access import described
from provisioner.registry import hosting
from provisioner.registry.redaction import mask


def page(visit: PageContext) -> Response:
    return _page(visit, Filled({}))


def again(visit: PageContext, error: ProvisionerError) -> Response:
    return _page(visit, form_of(visit, error))


def _page(visit: PageContext, form: Filled) -> Response:
    app = app_of(visit)
    run = hosting.run_command(visit.registry, app.id)
    return visit.page(
        "settings.html",
        status=form.status,
        form=form,
        app=app,
        repository=os.fsdecode(app.git_dir),
        kept=_kept(app),
        limit=written(app.pre_deploy_ms),
        confinement=described(app)[1],
        written=written,
        assignments=of_app(visit, app),
        run=run,
        mask=mask(visit.registry, app).text,
        run_values=run_form.values(run),
        run_shown=run_form.shown(visit, form, run),
    )


def _kept(app: App) -> Mapping[str, str]:
    expire = written(app.expire_ms) if app.expire_ms else "never"
    return {"grace": written(app.grace_ms), "retention": written(app.retention_ms), "expire_after": expire}


def change(visit: PageContext, __: ProgressReporter) -> RequestedChange:
    """Those of the three that are given."""
    app = app_of(visit)
    said = {name: visit.form[name].strip() for name in ("grace", "retention", "expire_after") if name in visit.form}
    for name, text in said.items():
        with filling(name):
            lasting(text) if name == "expire_after" else milliseconds(text)
    proposal = apps.change(
        visit.registry,
        app,
        grace=said.get("grace"),
        retention=said.get("retention"),
        expire_after=said.get("expire_after"),
    )
    path = f"/apps/{app.slug}/settings"
    before = _kept(app)
    offer = Offer("Undo", path, {name: before[name] for name in said})
    return RequestedChange(f"Changed the retention settings of {app.slug}", proposal, path, lambda _: offer)
