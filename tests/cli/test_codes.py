"""Every code in the source has a page, and every page has a code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dedupstore import errors
from dedupstore.cli.codes import PAGES
from dedupstore.cli.help import EXIT_CODES

PACKAGE = Path(errors.__file__).parent


def codes(tree: ast.AST) -> Iterator[str]:
    """`code = "…"` in a class, `code="…"` in a call, and as the default of an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [
                    "code"
                ]:
                    yield from text(statement.value)
        elif isinstance(node, ast.FunctionDef):
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                if argument.arg == "code" and default is not None:
                    yield from text(default)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from text(keyword.value)


def text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value


def test_every_error_class_has_a_page() -> None:
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, errors.DedupError):
            assert found.code in PAGES, found
            assert found.exit_code in EXIT_CODES, found


def test_every_code_in_the_source_has_a_page() -> None:
    used = {
        code: path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for code in codes(ast.parse(path.read_text(encoding="utf-8")))
    }

    assert {code: path for code, path in used.items() if code not in PAGES} == {}


def test_pages_are_whole_sentences() -> None:
    for code, page in PAGES.items():
        assert page.endswith((".", "?")), code
        assert page[0].isupper(), code
        assert len(page.split(". ")[0]) <= 120, code
