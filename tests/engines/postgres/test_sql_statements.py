"""SQL scripts are split where psql splits them, and nothing in them is for psql."""

from __future__ import annotations

import pytest

from provisioner.engines.postgres.dump.statements import PsqlCommand, Statements

SPLIT: tuple[tuple[str, list[str]], ...] = (
    ("", []),
    ("-- nothing\n/* and\nmore */ \n", []),
    ("select 1;select 2;\n", ["select 1;", "select 2;"]),
    ("select 1", ["select 1"]),
    ("\ufeffselect 1;", ["select 1;"]),
    ("-- head\n\n/* one /* two */ ; */ select 1; -- tail\nselect\n2\n;", ["select 1;", "select\n2\n;"]),
    ("select ';', 'it''s;', \"a;\"\"b\" ;x;", ["select ';', 'it''s;', \"a;\"\"b\" ;", "x;"]),
    ("select '\\';x;", ["select '\\';", "x;"]),
    ("select E'\\';x', e'''\\\\';y;", ["select E'\\';x', e'''\\\\';", "y;"]),
    ("select E'a'\n'b\\';c';y;", ["select E'a'\n'b\\';c';", "y;"]),
    ("select the'\\';x;", ["select the'\\';", "x;"]),
    ("do $$ ; ' $a$ $$;x;", ["do $$ ; ' $a$ $$;", "x;"]),
    ("do $a$ ; $$ $b$ $a;\n$a$;x;", ["do $a$ ; $$ $b$ $a;\n$a$;", "x;"]),
    ("select a$b$, $1;x;", ["select a$b$, $1;", "x;"]),
    ("create rule r as on insert to t do (a; b);x;", ["create rule r as on insert to t do (a; b);", "x;"]),
    (
        "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end;x;",
        [
            "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end;",
            "x;",
        ],
    ),
    ("create procedure p() begin atomic a; b; end;x;", ["create procedure p() begin atomic a; b; end;", "x;"]),
    ("begin; select 1; end;", ["begin;", "select 1;", "end;"]),
    ("create table begin (a int); x;", ["create table begin (a int);", "x;"]),
    ("\\restrict aB3\nselect 1;\n\\unrestrict aB3\n", ["select 1;"]),
    ("select 1 -- \\! no\n;", ["select 1 -- \\! no\n;"]),
    ("select '\\! no', $$\\! no$$, \"\\! no\"; /* \\! no */", ["select '\\! no', $$\\! no$$, \"\\! no\";"]),
    (");select 1;", [");", "select 1;"]),
)
FOR_PSQL = (
    "\\! touch x",
    "select 1 \\g |touch x",
    "select 1; \\! touch x",
    "select 1;\n  \\copy t from program 'touch x'",
    "\\restrict a\n\\! touch x",
    "\\restrict a \\! touch x",
    "\\restrict\n",
    "\\restrictx a",
    "select 1 \\restrict a\n",
    "/* */ \\o |touch x",
    "\\set x `touch x`",
    "select 1 \\; select 2;",
    "create function f() returns int begin atomic \\! touch x\n end;",
    "select (\\! touch x\n);",
    "\\.\n",
)


def split(script: str, *, escapes: bool = False) -> list[str]:
    lines = iter(script.encode().splitlines(keepends=True))
    return [statement.text.decode() for statement in Statements(lines, lambda: escapes)]


@pytest.mark.parametrize(("script", "statements"), SPLIT)
def test_a_script_is_split_into_its_statements(script: str, statements: list[str]) -> None:
    assert split(script) == statements


@pytest.mark.parametrize("script", FOR_PSQL)
def test_what_is_for_psql_is_refused(script: str) -> None:
    with pytest.raises(PsqlCommand):
        split(script)


def test_backslashes_escape_where_the_server_says_so() -> None:
    assert split("select '\\';x';y;", escapes=True) == ["select '\\';x';", "y;"]


def test_the_lines_behind_a_statement_can_be_taken_as_data() -> None:
    lines = iter(b"a;\ncopy t (b, c) from stdin;\n1\t;\n\\.\nb;\n".splitlines(keepends=True))
    found = []
    statements = Statements(lines)
    for statement in statements:
        found.append((statement.line, statement.words))
        if statement.words[0] == b"copy":
            assert [statements.take(), statements.take()] == [b"1\t;\n", b"\\.\n"]
    assert found == [(1, (b"a",)), (2, (b"copy", b"t", b"b", b"c", b"from", b"stdin")), (5, (b"b",))]
