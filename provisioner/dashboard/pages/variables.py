"""An app's variables, per context, listed and set as by `provisioner var`. Secrets can be written and are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, Context
from provisioner.dashboard.pages.suggest import app_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, RequestedChange, filling, form_of
from provisioner.dashboard.web.sessions import Offer
from provisioner.environment.dotenv import parse
from provisioner.operations import variables as wanted
from provisioner.operations.proposal import ProgressReporter
from provisioner.registry import variables
from provisioner.registry.store import Registry

WAYS: Final = ("one", "secret", "lines")
"""What a form sets: a variable, a secret, or the lines of a .env file."""


def page(visit: PageContext) -> Response:
    """With a `name` and a `context` in the address, it edits that variable."""
    app = app_of(visit)
    form = form_of(visit)
    name, context = form.value("name"), form.value("context")
    known = variables.listing(visit.registry, app.id)
    found = next((item for item in known if (item.name, item.context) == (name, context)), None)
    values = {"name": name, "way": form.value("way")}
    if found is not None:
        values |= {"context-" + found.context: "yes", "way": "secret" if found.secret else "one"}
        values |= {} if found.secret else {"value": found.value}
    return _page(visit, app, Filled(values))


def again(visit: PageContext, error: ProvisionerError) -> Response:
    """The value of a secret is never sent back."""
    form, app = form_of(visit, error), app_of(visit)
    secret = {item.name for item in variables.listing(visit.registry, app.id) if item.secret}
    if "secret" in form.values or form.value("name").strip() in secret:
        form = Filled({name: text for name, text in form.values.items() if name not in ("value", "lines")}, error)
    return _page(visit, app, form)


def _page(visit: PageContext, app: App, form: Filled) -> Response:
    way = form.value("way")
    contexts = [context for context in Context if f"context-{context}" in form.values]
    return visit.page(
        "variables.html",
        status=form.status,
        form=form,
        way=way if way in WAYS else WAYS[0],
        app=app,
        contexts=list(Context),
        chosen=contexts or list(wanted.USUAL),
        variables=variables.listing(visit.registry, app.id),
    )


def assign(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app = app_of(visit)
    given = visit.form
    contexts = [context for context in Context if f"context-{context}" in given]
    values = _values(given)
    with filling("contexts"):
        if not contexts:
            raise UsageError("no context was chosen", "Choose at least one")
    proposal = wanted.assign(visit.registry, app, values, contexts, secret="secret" in given)
    path = f"/apps/{app.slug}/variables"
    offer = _as_before(visit.registry, app, values, contexts, path)
    return RequestedChange(f"Set {', '.join(values)}"[:400], proposal, path, lambda _: offer)


def _values(given: Mapping[str, str]) -> dict[str, str]:
    """The variables to set. Browsers send every line break of a field as two characters."""
    if given.get("way") == "lines":
        with filling("lines"):
            values = parse("your input", given.get("lines", ""))
            for name, value in values.items():
                variables.check(name, value)
            return values
    name, value = given.get("name", "").strip(), given.get("value", "").replace("\r\n", "\n")
    with filling("name"):
        variables.check(name, "")
    with filling("value"):
        variables.check(name, value)
    return {name: value}


def _as_before(
    registry: Registry, app: App, values: Mapping[str, str], contexts: list[Context], path: str
) -> Offer | None:
    """How to restore the value of one variable; the old value of a secret is unknown, and must stay so."""
    if len(values) != 1:
        return None
    (name,) = values
    named = [item for item in variables.listing(registry, app.id) if item.name == name]
    before = [item for item in named if item.context in contexts]
    where = {f"context-{context}": "yes" for context in contexts}
    if not before:
        return Offer("Undo", f"{path}/unset", {"name": name, **where})
    if any(item.secret for item in named) or len({item.value for item in before}) > 1 or len(before) < len(contexts):
        return None
    return Offer("Undo", path, {"way": "one", "name": name, "value": before[0].value, **where})


def unset(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app = app_of(visit)
    name = visit.form.get("name", "")
    contexts = [context for context in Context if f"context-{context}" in visit.form]
    proposal = wanted.unset(visit.registry, app, [name], contexts or None)
    path = f"/apps/{app.slug}/variables"
    gone = [item for item in variables.listing(visit.registry, app.id) if item.name == name]
    gone = [item for item in gone if not contexts or item.context in contexts]
    offer = None
    if not any(item.secret for item in gone) and len({item.value for item in gone}) == 1:
        where = {f"context-{item.context}": "yes" for item in gone}
        offer = Offer("Undo", path, {"way": "one", "name": name, "value": gone[0].value, **where})
    return RequestedChange(f"Unset {name[:128]}", proposal, path, lambda _: offer)
