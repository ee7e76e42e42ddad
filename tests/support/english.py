"""The texts of the project that people read, and the phrases that none of them may have."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that people read, and the line that it starts on."""

    file: Path
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that no text may have, as a regular expression, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


def _phrase(pattern: str, instead: str) -> Phrase:
    return Phrase(re.compile(pattern, re.MULTILINE), instead)


PHRASES = (
    _phrase(r"\b[Ww]ho(?:m|se)?ever\b", "name the actor: anyone with a token, the client"),
    _phrase(
        r"(?:^|[.:;,(] ?)[Ww]ho (?:may|can|has|is|reads|listens|asks|pushes|writes|holds|waits|runs|uses|looks|needs|wants)\b"
        r"(?![^.\n]*\?)",
        "name the actor: anyone with a token, a user who",
    ),
    _phrase(r"\b[Ss]omebody\b|\b[Nn]obody\b|\b[Aa]nybody\b|\b[Ee]verybody\b", "the actor, or someone, no one, anyone"),
    _phrase(
        r"(?<!there )(?<!There )\b(?:is|are|was|were) no (?!longer\b|\w+er than\b|more\b|one\b)\w",
        "isn't a …; no app named 'x'",
    ),
    _phrase(r"\bany more\b|\bis not one of\b|(?<!there )\b(?:is|are) none\b(?! of)", "no longer; isn't; doesn't exist"),
    _phrase(r"\b(?:[Ll]eave|leaves|left) \S+(?:(?:,| and) \S+)* away\b|\bleft away\b", "omit"),
    _phrase(r"\b[Mm]end(?:s|ed|ing)?\b", "Resolve this, then …; fix; repair"),
    _phrase(r"\bby (?:itself|themselves)\b", "automatically"),
    _phrase(r"\bfor good\b|\bfor ever\b", "permanently; indefinitely"),
    _phrase(
        r"(?:^|[.;:,] )[Ss]ay (?:which|how|where|what|one|--|at most|for example|empty|another|NAME|yes|so)",
        "Use, Add, Choose, Enter",
    ),
    _phrase(r"\bName (?:one|another|a|an|the|it)\b", "Choose, Use, Enter"),
    _phrase(
        r"\b(?:cannot|can't|could not|can) be told\b|\bdoes not tell\b|\btells (?:of|which|on)\b|\b(?:is|are|was|were|be) told\b",
        "can't be determined; doesn't report; is notified; gets",
    ),
    _phrase(
        r"\b(?:put|puts) away\b|\b(?:put|puts) in (?:its|their|the) place\b|\bin (?:the|its|their) place of\b",
        "archive; replace; instead of",
    ),
    _phrase(r"\b[Ss]o (?:long|many|much) (?!as\b|that\b)", "this long; N"),
    _phrase(
        r"(?:^|[.;] )Of (?:a|an|each|every|all|it|this|one|some|two|several)\b",
        "put the noun first: Secret values stay hidden",
    ),
    _phrase(
        r"\b[Ww]hat (?:it|they|\w+) (?:held|holds|has left)\b|\b[Ww]hat (?:is|was) (?:there|kept|left|run)\b",
        "the current data; the log",
    ),
    _phrase(r"(?:^|[.:;] |\| )Where (?:a|an|the|it|that|one|any|no|there|someone|git|no app)\b(?![^.\n]*\?)", "If …"),
    _phrase(
        r"\bof (?:its|their|his|our) own\b|\b\w+ of ours\b|\bour (?:server|client|Python)",
        "its own X; the provisioner server",
    ),
    _phrase(r"\b[Mm]eanwhile\b", "in the meantime; while …"),
    _phrase(
        r"\banew\b|\b[Bb]egun\b|\b[Bb]egins? (?:with|as|again|from)\b", "again; restart; replace; started; starts from"
    ),
    _phrase(
        r"\bshall\b|\bneed not\b|\b(?:has|have) to (?:be|pass)\b",
        "must; doesn't need to; the scrub command runs on copies",
    ),
    _phrase(r"\b(?:goes|go|went|going) on\b", "continue; keep running"),
    _phrase(
        r"\b[Tt]ak(?:e|es|en|ing) (?:it |them |\S+ )?(?:away|back)\b|\btook (?:it |them )?(?:away|back)\b"
        r"|\bworthless\b|\bopens? nothing\b",
        "remove; revoke; unassign; undo; is invalid",
    ),
    _phrase(r"\b[Bb]ack-up|\bretention time\b", "backup (noun), back up (verb); retention period"),
    _phrase(
        r"\b(?:centres?|licence|colours?|behaviours?|cancelled|cancelling|labelled|modelled|neighbours?|favour|honour|artefacts?|catalogues?|whilst)\b"
        r"|\b(?:organis|recognis|normalis|serialis|initialis|synchronis|minimis|optimis|summaris|authoris)(?:e|es|ed|ing|ation)\b",
        "US spelling: center, license, color, behavior, canceled, organize",
    ),
    _phrase(r"(?<!such )\b[Aa]s (?:\d+(?:d|h|s|min)\b|'\[|\[\")", "for example 30d"),
    _phrase(r"\bin error\b", "failed; has status error"),
    _phrase(r"\b(?:lies|lie) (?:on|in|beside|behind|one|there)\b", "is stored on; is"),
    _phrase(r", (?:also|too) (?:for|by|of|from|to|not|through|where)\b", "including; even"),
    _phrase(r"\b(?:Kept|Keep|kept) until\b|\bWhose\b(?! \w+[^.\n]*\?)", "Expires; expires; Owner"),
    _phrase(r"\b(?:is|are|was|were) asked(?! for\b| to\b)|\bis asked to have\b", "the command asks; confirm; query"),
    _phrase(r"\btill\b|\bthereof\b|\btherein\b|\bthereby\b|\bupon\b|\bhence\b", "until; of it; on; therefore"),
    _phrase(r"\b[Hh]alf[- ]done\b(?<!nothing is half done)", "incomplete; partly applied"),
    _phrase(r"\bin vain\b|\bbeforehand\b|\bas well\b(?! as)", "without success; before; too"),
    _phrase(
        r"(?<!and )… (?:live )?(?:databases|branches|timelines|snapshots|steps)\b", "counted(number, noun): 1 database"
    ),
    _phrase(
        r"\bsay --|\bGo on\b|\bMake one\b|\bnot here\b|\bto who \w+s\b|\bcannot make\b|\bfor us to\b"
        r"|, ours (?:…|is\b|are\b)|\bLet this user\b",
        "add --; continue; create one; not installed; to the role that; cannot create; provisioner does not; this one's",
    ),
    _phrase(
        r"\bin the clear\b|\b(?:is|are) not whole\b|\bwhether \S+ \S+ is whole\b", "unencrypted; is damaged; intact"
    ),
    _phrase(
        r"\b(?:errands?|doormen|doorman|deeds?|promises)\b", "job; connection guard; journal entry; pending commit"
    ),
)


def python_passages(file: Path) -> Iterator[Passage]:
    """Every docstring, comment, and string of several words; f-strings with … for their values. Not SQL."""
    source = file.read_text()
    tree = ast.parse(source)
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in joined for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        text = _string(node)
        if text is not None and _is_prose(text):
            yield Passage(file, getattr(node, "lineno", 0), text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(file, token.start[0], token.string.lstrip("# "))


def _string(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(value.value) if isinstance(value, ast.Constant) else "…" for value in values)
        case _:
            return None


SQL = re.compile(
    r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|PRAGMA|BEGIN|COMMIT|ROLLBACK|GRANT|REVOKE|SET|FROM|WHERE)\b"
    r"|\s*(?:select|insert into|update \S+ set|delete from|create (?:or|role|table|index|database)|alter \w+|grant \w+ on) "
)


CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
"""Code in a sentence, which may have any name in it."""


def _is_prose(text: str) -> bool:
    return " " in text.strip() and not SQL.match(text)


def template_passages(file: Path) -> Iterator[Passage]:
    """The text of a Jinja template: its statements, expressions, and tags only with their strings of several words."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        yield Passage(file, number, re.sub(r"{[{%].*?[%}]}|<[^>{]*>", _strings, line))


def _strings(code: re.Match[str]) -> str:
    return " | ".join(["", *(text for text in re.findall(r'"([^"]*)"', code[0]) if " " in text), ""])


def plain_passages(file: Path) -> Iterator[Passage]:
    """The lines of a page or a script."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        yield Passage(file, number, line)


def found(passages: Iterator[Passage]) -> Iterator[str]:
    """Each banned phrase as `file:line: "phrase": write instead`."""
    for passage in passages:
        text = CODE.sub("`…`", passage.text)
        for phrase in PHRASES:
            for match in phrase.pattern.finditer(text):
                line = passage.line + text.count("\n", 0, match.start())
                context = text[max(0, match.start() - 40) : match.end() + 40].replace("\n", "⏎")
                yield f'{passage.file}:{line}: "{match[0].strip()}" in "{context}": write {phrase.instead}'
