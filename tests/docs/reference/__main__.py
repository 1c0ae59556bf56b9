"""`python -m tests.docs.reference` writes the generated parts of docs/reference; `--check` only names outdated ones."""

import argparse
import sys

from tests.docs.reference.pages import PAGES, read, render


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is outdated")
    is_check = parser.parse_args().check
    outdated = [page for page in PAGES if render(page) != read(page)]
    for page in outdated:
        print(f"{'outdated' if is_check else 'written'}: docs/reference/{page}.md")
        if not is_check:
            PAGES[page].file.write_text(render(page), encoding="utf-8")
    return int(is_check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
