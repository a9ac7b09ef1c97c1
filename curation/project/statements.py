"""Statements: what one import says, read from its syntax nodes, in each language's own spelling."""

import re
from dataclasses import dataclass

from tree_sitter import Node

MOST_NAME = 1000  # characters of a name, and
_MOST_DEEP = 64  # levels of nesting: what is more names no file, but can take for ever


@dataclass(frozen=True)
class Import:
    """One import: the name as written, and the names that are taken out of it (`*` for all).

    kind: what the language's rules need to know, such as `quoted` and `angled` of an #include.
    """

    name: str
    names: tuple[str, ...] = ()
    kind: str = ""


def text_of(node: Node) -> str:
    return (node.text or b"").decode(errors="replace")


def _python(found: dict[str, Node]) -> list[Import]:
    if "module" in found:
        return [Import(text_of(found["module"]))]
    names = []
    for node in found["whole"].children_by_field_name("name"):
        inner = node.child_by_field_name("name") if node.type == "aliased_import" else node
        names.append(text_of(inner or node))
    if any(node.type == "wildcard_import" for node in found["whole"].children):
        names.append("*")
    return [Import(re.sub(r"\s", "", text_of(found["from"])), tuple(names), "from")]


def _script(found: dict[str, Node]) -> list[Import]:
    if "call" in found and text_of(found["call"]) != "require":
        return []
    return [Import(text_of(found["path"]))]


def _java(found: dict[str, Node]) -> list[Import]:
    text = text_of(found["import"]).removeprefix("import").rstrip(";").split()
    static = text[:1] == ["static"]
    return [Import("".join(text[static:]), kind="static" if static else "")]


def _kotlin(found: dict[str, Node]) -> list[Import]:
    text = text_of(found["import"]).removeprefix("import").split(" as ")[0]
    return [Import("".join(text.split()).rstrip(";"))]


def _go(found: dict[str, Node]) -> list[Import]:
    alias = (text_of(found["alias"]),) if "alias" in found else ()
    return [Import(text_of(found["quoted"]).strip('"`'), alias)]


def _include(found: dict[str, Node]) -> list[Import]:
    text = text_of(found["include"])
    if text[:1] not in ('"', "<"):
        return []  # a macro
    return [Import(text.strip('"<>'), kind="quoted" if text[0] == '"' else "angled")]


def _rust(found: dict[str, Node]) -> list[Import]:
    if "mod" in found:
        before = found["mod_item"].prev_named_sibling
        # #[path = "x.rs"] mod y;
        path = ""
        if before is not None and before.type == "attribute_item":
            match = re.search(r'path\s*=\s*"([^"]+)"', text_of(before))
            path = match[1] if match else ""
        # `mod` inside `mod tests { … }` is looked for in a folder of that name.
        outer = _modules_around(found["mod_item"])
        return [Import("::".join([*outer, text_of(found["mod"])]), (path,) if path else (), "mod")]
    if "crate" in found:
        return [Import(text_of(found["crate"]), kind="use")]
    renamed = re.sub(r" as \w+", "", " ".join(text_of(found["use"]).split()))
    names = _use_tree("".join(renamed.split()))
    if outer := _modules_around(found["use"]):
        names = [_from_inside(name, outer) for name in names]
    return [Import(name, kind="use") for name in names]


def _modules_around(node: Node) -> list[str]:
    """Names of the modules with a body, in this file, that a node stands in, outermost first."""
    outer: list[str] = []
    around = node.parent
    for _ in range(_MOST_DEEP):
        if around is None:
            break
        if around.type == "mod_item":
            outer.insert(0, text_of(around.child_by_field_name("name")))
        around = around.parent
    return outer


def _from_inside(name: str, outer: list[str]) -> str:
    """A path as the file would spell it that has the modules `outer` around the statement."""
    head, *rest = name.split("::")
    if head not in ("self", "super"):
        return name
    left = list(outer)
    if head == "super":
        left.pop()
    while rest[:1] == ["super"] and left:
        left.pop()
        rest = rest[1:]
    up = rest[:1] == ["super"]
    return "::".join([*([] if up else ["self"]), *left, *rest])


def _use_tree(text: str, before: str = "", level: int = 0) -> list[str]:
    """Spell out `a::{b,c::{d,e}}` as a::b, a::c::d and a::c::e."""
    paths, depth, start = [], 0, 0
    if level > _MOST_DEEP or len(before) > MOST_NAME:
        return []
    for at, char in enumerate(text + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            part, start = text[start:at], at + 1
            head, brace, rest = part.partition("{")
            if brace:
                paths += _use_tree(rest.rpartition("}")[0], before + head, level + 1)
            elif part:
                paths.append(before + part)
    return paths


def _csharp(found: dict[str, Node]) -> list[Import]:
    """Of kind `static`, `alias` (another name for a type or a namespace), `global`, or none."""
    words = text_of(found["using"]).rstrip(";").replace("=", " = ").split()
    if is_global := words[:1] == ["global"]:  # for all files of its project
        words = words[1:]
    left = words[1:]
    kind = "static" if left[:1] == ["static"] else "alias" if "=" in left else "global" * is_global
    left = left[left.index("=") + 1 :] if "=" in left else left
    left = left[left[:1] == ["static"] :]
    return [Import("".join(left).removeprefix("global::"), kind=kind)]


def _ruby(found: dict[str, Node]) -> list[Import]:
    call = text_of(found["call"])
    if call not in ("require", "require_relative", "load", "autoload"):
        return []
    return [Import(text_of(found["path"]), kind=call)]


def _php(found: dict[str, Node]) -> list[Import]:
    if "file" in found:
        text = text_of(found["file"]).strip("() ")
        match = re.fullmatch(
            r"(__DIR__\s*\.\s*|dirname\(\s*__FILE__\s*\)\s*\.\s*)?(['\"])([^'\"$]+)\2", text
        )
        return (
            [Import(match[3].lstrip("/") if match[1] else match[3], kind="file")] if match else []
        )
    text = text_of(found["use"]).strip().removeprefix("use").rstrip(";").strip()
    text = re.sub(r"^(function|const)\s+", "", text)
    head, brace, rest = text.partition("{")
    if brace and len(head) > MOST_NAME:
        return []
    names = rest.rstrip("} ").split(",") if brace else text.split(",")
    bare = [name.split(" as ")[0].strip() for name in names if name.strip()]
    return [Import(((head if brace else "") + name).strip("\\ "), kind="use") for name in bare]


READ = {
    "python": _python, "javascript": _script, "typescript": _script, "java": _java,
    "kotlin": _kotlin, "go": _go, "c": _include, "cpp": _include, "rust": _rust,
    "csharp": _csharp, "ruby": _ruby, "php": _php,
}  # fmt: skip
