"""Extensions that a dump makes: those that the instance trusts, because the administrator makes them.

What PostgreSQL itself calls trusted, the owner of a database may make, and makes here. Others may read files of the server
and connect elsewhere (dblink, file_fdw): an operator sets which of them a dump may bring along.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from provisioner.core.allowance import USUAL
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Instance
from provisioner.engines.postgres import roles
from provisioner.engines.postgres.administration import administering_in
from provisioner.engines.postgres.dump.script import Extension, Install
from provisioner.engines.postgres.roles import statement
from provisioner.engines.postgres.session import Session


def installer(instance: Instance, target: str, owner: str) -> Install:
    """Makes extensions that the instance trusts in a database of this owner's."""

    def install(extension: Extension) -> None:
        make(instance, target, owner, [extension], foreign=True)

    return install


def make(instance: Instance, target: str, owner: str, wanted: Iterable[Extension], *, foreign: bool) -> None:
    """Make extensions, each with those that it requires; of a `foreign` dump only those that the instance trusts.

    Raises ProvisionerError.
    """
    with administering_in(instance, target) as inside:
        for extension in wanted:
            required = inside.execute(_REQUIRED, (extension.name,)).fetchall()
            if foreign:
                _must_be_trusted(
                    instance, [name for name, by_server in required if not by_server or not _usual(instance)]
                )
            _make(inside, target, owner, extension, by_owner=bool(required) and all(trusted for _, trusted in required))


def _make(inside: Session, target: str, owner: str, extension: Extension, *, by_owner: bool) -> None:
    words = sql.SQL("create extension if not exists {}").format(roles.named(extension.name))
    if extension.schema is not None:
        words += sql.SQL(" with schema {}").format(roles.named(extension.schema))
    words += sql.SQL(" cascade")
    if by_owner:
        begin = statement(
            "grant create on database {target} to {owner}; set local role {owner}", target=target, owner=owner
        )
        roles.at_once(inside, [begin, words])
    else:
        inside.execute(words)


def _usual(instance: Instance) -> bool:
    return USUAL in instance.allowance.extensions


def _must_be_trusted(instance: Instance, names: list[str]) -> None:
    unknown = [name for name in names if name not in instance.allowance.extensions]
    if unknown:
        listed = ",".join([*instance.allowance.extensions, *unknown])
        raise ProvisionerError(
            f"the extension {unknown[0]} is not trusted on the instance {instance.slug}",
            f"If you trust it: provisioner instance edit {instance.slug} --trusted-extensions {listed}",
        )


# An extension and those it requires, unless they are there already; and does the server let owners of databases make it?
_REQUIRED = """
  with recursive wanted(name) as (
    select %s::text collate "C" union
    select unnest(requires)::text collate "C" from wanted join pg_available_extensions found using (name)
    join pg_available_extension_versions version on version.name = found.name and version.version = default_version
  )
  select wanted.name, coalesce(bool_or(trusted), false) from wanted
  left join pg_available_extension_versions known on known.name = wanted.name
  where wanted.name not in (select extname from pg_extension) group by wanted.name
"""
