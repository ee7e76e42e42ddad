"""Assignments of instances to apps: shown, and changed as `provisioner assign` and `unassign` do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.model import App, ConnectMode, Instance, Scrub
from provisioner.core.naming import BRANCH_PREFIX
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.dashboard.web.forms import RequestedChange
from provisioner.dashboard.web.sessions import Offer
from provisioner.engines.catalog import engine_of
from provisioner.operations import assignments
from provisioner.operations.instance import names as instances
from provisioner.operations.proposal import ProgressReporter
from provisioner.reconcile.apply.fork_sources import EMPTY, FORK

BRANCH: Final = "branch"
_MODES: Final = (
    (ConnectMode.AUTO, "auto: by URL while a server runs, else by file"),
    (ConnectMode.FILE, "file: by the database's file"),
    (ConnectMode.URL, "url: by the server's URL"),
)
_RULES: Final = (
    (EMPTY, "empty"),
    ("fork:production", "a fork of production"),
    ("fork:parent", "a fork of the branch that it was created from"),
    (BRANCH, "a fork of another branch"),
)
_MEANT_OTHERWISE: Final = ("production", "parent")


@dataclass(frozen=True, slots=True)
class Assignment:
    instance: Instance
    app: App
    connect: ConnectMode
    begins: str
    scrub: Scrub | None

    @property
    def way(self) -> str:
        """How apps connect; to a database without keys always by its URL."""
        return self.connect if engine_of(self.instance).has_keys else ConnectMode.URL

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a form that restores this assignment."""
        return {"instance": self.instance.slug, "app": self.app.slug, "connect": self.connect, "begins": self.begins}


def of_app(visit: PageContext, app: App) -> list[Assignment]:
    """Those of an app, the first assigned first."""
    registry = visit.registry
    modes, rules, scrubs = registry.connect_modes(app.id), registry.new_branches(app.id), registry.scrubs(app.id)
    return [
        Assignment(each, app, modes[each.id], rules[each.id], scrubs.get(each.id)) for each in registry.assigned(app.id)
    ]


def of_instance(visit: PageContext, instance: Instance) -> list[Assignment]:
    slugs = {app for slug, app in visit.registry.assignments() if slug == instance.slug}
    apps = [app for app in visit.registry.apps() if app.slug in slugs]
    return [each for app in apps for each in of_app(visit, app) if each.instance.id == instance.id]


def form(visit: PageContext, error: ProvisionerError | None = None) -> Response:
    """The form for a new assignment, or for the settings of an existing one."""
    asked = {name: visit.form.get(name) or visit.query(name) for name in ("instance", "app")}
    every, apps = visit.registry.instances(), visit.registry.apps()
    pairs = set(visit.registry.assignments())
    present = next((each for each in _present(visit, apps, asked)), None)
    begins = visit.form.get("begins") or (present.begins if present else EMPTY)
    rule, branch = _split(begins)
    wrong = {"branch": "", "form": ""}
    if error is not None:
        wrong["branch" if isinstance(error, UsageError) and begins == BRANCH else "form"] = str(error)
    return visit.page(
        "assign.html",
        status=200 if error is None else 400 if isinstance(error, UsageError) else 409,
        asked=asked,
        back=visit.form.get("from") or visit.query("from") or ("app" if asked["app"] and not asked["instance"] else ""),
        present=present,
        instances=[_option(each.slug) for each in every if asked["instance"] or (each.slug, asked["app"]) not in pairs],
        apps=[_option(each.slug) for each in apps if asked["app"] or (asked["instance"], each.slug) not in pairs],
        any_instance=bool(every),
        any_app=bool(apps),
        modes=_MODES,
        connect=visit.form.get("connect") or (present.connect if present else ConnectMode.AUTO),
        rules=_RULES,
        rule=rule,
        branch=visit.form.get("branch", branch),
        wrong=wrong,
    )


def assign(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """Settings that the form does not contain stay unchanged."""
    instance, app = _meant(visit)
    before = next((each for each in of_app(visit, app) if each.instance.id == instance.id), None)
    proposal = assignments.assign(visit.registry, app, instance, connect=_connect(visit), begins=_begins(visit))
    if before is None:
        offer = Offer("Undo", "/unassign", {"instance": instance.slug, "app": app.slug})
        return RequestedChange(
            f"Assign {instance.slug} to {app.slug}", proposal, _back(visit, instance, app), lambda _: offer
        )
    offer = Offer("Undo", "/assign", before.fields)
    title = f"Change how {instance.slug} is assigned to {app.slug}"
    return RequestedChange(title, proposal, _back(visit, instance, app), lambda _: offer)


def unassign(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    instance, app = _meant(visit)
    if all(each.id != instance.id for each in visit.registry.assigned(app.id)):
        raise ProvisionerError(f"{instance.slug} is not assigned to {app.slug}", "Nothing was done")
    proposal = assignments.unassign(visit.registry, app, instance)
    offer = Offer("Undo", "/assign", {"instance": instance.slug, "app": app.slug})
    title = f"Unassign {instance.slug} from {app.slug}"
    return RequestedChange(title, proposal, _back(visit, instance, app), lambda _: offer)


def _meant(visit: PageContext) -> tuple[Instance, App]:
    """The instance and the app that the form names. Raises Missing and ProvisionerError."""
    slug, other = visit.form.get("app", ""), visit.form.get("instance", "")
    app = visit.registry.app_called(slug)
    if app is None:
        raise Missing(f"no app named {slug[:100]!r}", "See the list of apps")
    return instances.find(visit.registry, other[:100]), app


def _connect(visit: PageContext) -> ConnectMode | None:
    text = visit.form.get("connect", "")
    if text and text not in list(ConnectMode):
        raise UsageError(f"{text[:100]!r} is not a way to connect", f"Choose one of {', '.join(ConnectMode)}")
    return ConnectMode(text) if text else None


def _begins(visit: PageContext) -> str | None:
    """The rule that a form contains; None if it contains none. A branch whose name is a keyword also has a longer name."""
    begins, branch = visit.form.get("begins", ""), visit.form.get("branch", "").strip()
    if begins == BRANCH:
        begins = FORK + (BRANCH_PREFIX.decode() if branch in _MEANT_OTHERWISE else "") + branch
    elif begins and not begins.startswith(FORK) and begins not in {value for value, _ in _RULES}:
        raise UsageError(f"{begins[:100]!r} is not a rule for new branches", "Choose one of the list")
    return assignments.new_branch(begins) if begins else None


def _split(begins: str) -> tuple[str, str]:
    """A rule as the two fields of the form."""
    if any(begins == value for value, _ in _RULES):
        return begins, ""
    return BRANCH, begins.removeprefix(FORK)


def _present(visit: PageContext, apps: list[App], asked: dict[str, str]) -> list[Assignment]:
    found = [each for app in apps if app.slug == asked["app"] for each in of_app(visit, app)]
    return [each for each in found if each.instance.slug == asked["instance"]]


def _option(slug: str) -> tuple[str, str]:
    return slug, slug


def _back(visit: PageContext, instance: Instance, app: App) -> str:
    """The page that it was sent from."""
    return f"/apps/{app.slug}" if visit.form.get("from") == "app" else f"/instances/{instance.slug}"
