"""Changes of instances: each as `provisioner instance` does it."""

from __future__ import annotations

from starlette.responses import Response

from provisioner.core.connection import ServerLocation
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Instance
from provisioner.dashboard.pages.instance import found
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.dashboard.web.forms import Choice, RequestedChange
from provisioner.dashboard.web.sessions import Offer
from provisioner.engines.catalog import ENGINES, engine_of
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.engines.protocol.location import SSL_MODES, without_password
from provisioner.operations import retry
from provisioner.operations.instance import addition
from provisioner.operations.instance import deletion as instance_deletion
from provisioner.operations.instance import edit as instance_edit
from provisioner.operations.instance import names as instances
from provisioner.operations.proposal import ProgressReporter
from provisioner.registry.home.observed_time import recoverable
from provisioner.registry.instances import Deleted, deleted
from provisioner.registry.store import Registry

_PLACE = ("directory", "url", "ca_cert", "sslmode")
_SSL_MODES = (("", "as in the URL"), *((mode, mode) for mode in SSL_MODES))
_BACKUP = Choice("backup", "Final backup", (("yes", "of each database"), ("no", "none")))


def test(visit: PageContext) -> Response:
    """The page with the results of `provisioner instance test`."""
    instance = found(visit)
    checks = list(engine_of(instance).test(instance))
    return visit.page("checks.html", instance=instance, checks=checks, well=all(check.well for check in checks))


# added and edited by forms


def adding(visit: PageContext, error: ProvisionerError | None = None) -> Response:
    """The form."""
    typed = visit.form
    return visit.page(
        "add_instance.html",
        status=_status(error),
        engines=[(engine, engine) for engine in ENGINES],
        engine=typed.get("engine", ""),
        name=typed.get("name", ""),
        typed=_typed(visit),
        wrong=_wrong(visit, typed.get("name", ""), "", error),
        sslmodes=_SSL_MODES,
    )


def add(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    name, engine = visit.form.get("name", "").strip(), visit.form.get("engine", "")
    if engine not in ENGINES:
        raise UsageError(f"no engine named {engine[:100]!r}", f"Choose one of {', '.join(ENGINES)}")
    proposal = addition.add(visit.registry, name, engine, _where(visit))
    return RequestedChange(f"Add the instance {name}", proposal, f"/instances/{name}", meanwhile="/")


def editing(visit: PageContext, error: ProvisionerError | None = None) -> Response:
    """The form."""
    instance = found(visit)
    return visit.page(
        "edit_instance.html",
        status=_status(error),
        instance=instance,
        linked=isinstance(instance.location, ServerLocation),
        name=visit.form.get("name", instance.slug),
        typed=_as_it_is(instance) | _typed(visit),
        sslmodes=_SSL_MODES,
        wrong=_wrong(visit, visit.form.get("name", instance.slug), instance.slug, error),
    )


def edit(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    instance = found(visit)
    name = visit.form.get("name", instance.slug).strip()
    proposal = instance_edit.edit(visit.registry, instance, name, _where(visit, instance))
    page = f"/instances/{name}"
    back = Offer("Undo", f"{page}/edit", {"name": instance.slug}) if name != instance.slug else None
    return RequestedChange(f"Change the instance {instance.slug}", proposal, page, lambda _: back, meanwhile="/")


def _typed(visit: PageContext) -> dict[str, str]:
    """The typed location, in a form that may be shown again: without its credentials."""
    typed = {name: visit.form[name] for name in _PLACE if name in visit.form}
    return typed | ({"url": without_password(typed["url"])} if "url" in typed else {})


def _as_it_is(instance: Instance) -> dict[str, str]:
    return {"directory": instance.location, "url": without_password(instance.url)}


def _where(visit: PageContext, known: Instance | None = None) -> StorageTarget:
    """The typed location, if it differs from the current one. Raises UsageError if this session must not set it.

    A password stays only with its URL: it is not sent to another server.
    """
    said = {name: visit.form.get(name, "").strip() for name in _PLACE}
    there = _as_it_is(known) if known else {}
    new = {name: text or None for name, text in said.items() if text != there.get(name)}
    password = visit.form.get("password") or None
    if not visit.session.at_home and (any(new.values()) or password):
        raise UsageError(
            "a session that was opened with a token can't choose where data is stored",
            "Log in with a link: provisioner dashboard",
        )
    if new.get("sslmode") not in (None, *SSL_MODES):
        raise UsageError("no such TLS mode", f"Choose one of {', '.join(SSL_MODES)}")
    return StorageTarget(
        directory=new.get("directory"),
        url=new.get("url"),
        ca_cert=new.get("ca_cert"),
        sslmode=new.get("sslmode"),
        password=password,
    )


def _wrong(visit: PageContext, name: str, old: str, error: ProvisionerError | None) -> dict[str, str]:
    """The error, by the name of its field."""
    wrong = {"name": "", "directory": "", "url": "", "form": ""}
    if error is None:
        return wrong
    try:
        if instances.parse_name(name.strip()) != old:
            instances.must_be_free(visit.registry, name.strip())
    except ProvisionerError:
        return wrong | {"name": str(error)}
    said = [name for name in ("url", "directory") if visit.session.at_home and visit.form.get(name, "").strip()]
    return wrong | {said[0] if said else "form": str(error)}


def _status(error: ProvisionerError | None) -> int:
    if error is None:
        return 200
    return 400 if isinstance(error, UsageError) else 409


# fixed, deleted and recovered


def fix(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """All failed databases of the instance, or the one that the form names."""
    instance = found(visit)
    page, chosen = f"/instances/{instance.slug}", visit.form.get("database", "")
    if not chosen:
        return RequestedChange(f"Fix the databases of {instance.slug}", retry.instance(visit.registry, instance), page)
    database = visit.registry.database(DatabaseId(chosen))
    app = visit.registry.app(visit.registry.timeline(database.timeline_id).app_id) if database is not None else None
    if database is None or app is None or database.instance_id != instance.id:
        raise Missing(f"{instance.slug} has no such database", "See the list of its databases")
    timeline = visit.registry.timeline(database.timeline_id)
    return RequestedChange(f"Fix {database.name}", retry.databases(visit.registry, app, timeline, [database]), page)


def delete(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    instance = found(visit)
    backup = visit.form.get("backup", "yes") != "no"
    proposal = instance_deletion.delete(visit.registry, instance, backup=backup)

    def undo(registry: Registry) -> Offer | None:
        gone = any(item.instance.id == instance.id for item in deleted(registry))
        return Offer("Undo", f"/deleted/{instance.id}/recover", {}) if gone else None

    return RequestedChange(f"Delete {instance.slug}", proposal, "/", undo, choices=(_BACKUP,))


def recover(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    chosen = visit.parameter("instance_id")
    item = next((item for item in deleted(visit.registry) if item.instance.id == chosen), None)
    if item is None:
        raise Missing("no such deleted instance", "See the list of instances")
    slug = item.instance.slug
    proposal = instance_deletion.recover(visit.registry, item)
    return RequestedChange(f"Recover {slug}", proposal, f"/instances/{slug}", meanwhile="/")


def deleted_instances(visit: PageContext) -> list[Deleted]:
    """The deleted instances that can be recovered now."""
    return recoverable(visit.registry, visit.now)
