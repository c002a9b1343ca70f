"""A page as a tree, read with the standard library's parser, for tests to look into."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "hr", "input"}


@dataclass
class Node:
    """An element: its attributes, and its children and texts in order."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    def walk(self) -> Iterator["Node"]:
        """The element and all below it, in the order of the page."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, name: str, style: str = "") -> list["Node"]:
        """Elements of that name below it, of that class where one is named."""
        return [node for node in self.walk() if node.name == name and (not style or style in node.styles())]

    def styles(self) -> list[str]:
        """Its classes."""
        return (self.attributes.get("class") or "").split()

    def identified(self, identity: str) -> "Node":
        """The one element with that id."""
        (found,) = [node for node in self.walk() if node.attributes.get("id") == identity]
        return found

    @property
    def text(self) -> str:
        """All text in it; without the line break that HTML drops at the beginning of a `pre`."""
        joined = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return joined.removeprefix("\n") if self.name == "pre" else joined


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_html(page: str) -> Node:
    """The page's root. Fails where an element is not closed, or closed by another."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].name}> is never closed"
    return reader.open[0]
