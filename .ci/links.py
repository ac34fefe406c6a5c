"""Whether the links within a built site lead somewhere: pages, files and places in pages. Others are not fetched."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """The places in a page, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids and references."""
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name in {"href", "src"} and value and tag != "use":
                self.links.add(value)


def main() -> int:
    """Look at all pages below the folder that is given."""
    root = Path(sys.argv[1]).resolve()
    pages = {path: Page(path.read_text()) for path in sorted(root.rglob("*.html"))}
    seen, broken = 0, 0
    for path, page in pages.items():
        for link in sorted(page.links):
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            seen += 1
            address, place = urldefrag(link)
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            if not target.exists() or (place and target in pages and unquote(place) not in pages[target].places):
                broken += 1
                print(f"{path.relative_to(root)}: {link} leads nowhere")
    print(f"{len(pages)} pages, {seen} links within them, {broken} broken")
    return 1 if broken or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
