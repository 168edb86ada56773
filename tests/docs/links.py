"""The book and the pages beside it: every relative link leads to a file, every anchor to a heading.

    tests/docs/links.py             the sources: docs/*.md, README.md and the other pages of the root
    tests/docs/links.py DIRECTORY   the pages that mdbook has made there, anchors by their ids

Links to this project's own files on its public address are looked up here as well. Other addresses
are counted, and not asked.
"""

import html.parser
import pathlib
import re
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = "https://github.com/tidegate/tidegate/blob/main/"
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def plain(text: str) -> str:
    """Markdown without code: what stands in it is no link."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    return re.sub(r"(`+)(?:(?!\1).)+?\1(?!`)", lambda m: "x" if "](" in m[0] else m[0], text)


def anchors(text: str) -> set:
    """Of the headings, as GitHub and mdbook make them."""
    found, seen = set(), {}
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        found.add(name if count == 0 else f"{name}-{count}")
    return found


def of_sources() -> tuple:
    pages = sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("packaging/*/README.md"))
    pages += [ROOT / "benches/README.md"]
    broken, inside, outside = [], 0, 0
    for page in pages:
        text = plain(page.read_text())
        for link in LINK.findall(text) + IMAGE.findall(text):
            where = page.parent / link
            if link.startswith(OURS):
                where = ROOT / link.removeprefix(OURS)
            elif re.match(r"[a-z]+:", link):
                outside += 1
                continue
            inside += 1
            path, _, anchor = str(where).partition("#")
            file = page if link.startswith("#") else pathlib.Path(urllib.parse.unquote(path))
            if not file.exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                broken.append(f"{page.relative_to(ROOT)}: {link}: no such heading")
            elif page.parent.name == "docs" and not link.startswith(OURS) and not file.resolve().is_relative_to(page.parent):
                broken.append(f"{page.relative_to(ROOT)}: {link}: leads out of the book")
    listed = set(LINK.findall((ROOT / "docs/SUMMARY.md").read_text()))
    for page in ROOT.glob("docs/*.md"):
        if page.name != "SUMMARY.md" and page.name not in listed:
            broken.append(f"docs/SUMMARY.md: {page.name} is not in it")
    return broken, inside, outside


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.add(attrs["id"])
        link = attrs.get("href") if tag in ("a", "link") else attrs.get("src")
        if link:
            self.links.append((tag, link))


def of_book(directory: pathlib.Path) -> tuple:
    pages = {path: Page(path.read_text()) for path in sorted(directory.glob("*.html"))}
    assert len(pages) > 10, f"{directory}: {len(pages)} pages"
    broken, inside, outside = [], 0, 0
    for path, page in pages.items():
        if path.name in ("print.html", "404.html", "toc.html"):
            continue
        for tag, link in page.links:
            if re.match(r"[a-z]+:|//", link):
                outside += 1
                # the book is read without a network, but for links that somebody follows
                if tag != "a":
                    broken.append(f"{path.name}: {link}: is loaded from elsewhere")
                continue
            inside += 1
            to, _, anchor = link.partition("#")
            file = (path.parent / urllib.parse.unquote(to)).resolve() if to else path
            if not file.exists():
                broken.append(f"{path.name}: {link}: no such file")
            elif anchor and file in pages and urllib.parse.unquote(anchor) not in pages[file].ids:
                broken.append(f"{path.name}: {link}: no such heading")
    return broken, inside, outside


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else "sources"
    broken, inside, outside = of_sources() if what == "sources" else of_book(pathlib.Path(what).resolve())
    for one in broken:
        print(one)
    print(f"links of {what}: {inside} inside, {outside} to elsewhere, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
