"""A headless Chromium that opens a page, carries out a script in it, and tells what came of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser, or None where there is none."""

ARTEFACTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Where tests leave what the browser showed, for people to look at; git ignores the folder."""

_WATCH = """<script>
window.troubles = [];
window.addEventListener("error", (e) => troubles.push(`error: ${e.message}`));
document.addEventListener("securitypolicyviolation", (e) => troubles.push(`blocked: ${e.blockedURI}`));
const complain = console.error;
console.error = (...words) => { troubles.push(`console: ${words.join(" ")}`); complain(...words); };
</script>"""


def visit(page: str, script: str, folder: Path, *, width: int = 1100, height: int = 900, dark: bool = False) -> Any:
    """What `script` returns in the page, and a screenshot in `folder`.

    Args:
        script: the body of an asynchronous function, whose result is JSON. `troubles` lists all errors so far.
    """
    assert CHROMIUM is not None
    run = f"""<script>
    setTimeout(async () => {{
      const told = await (async () => {{ {script} }})().catch((e) => ({{ failed: String(e), troubles }}));
      const place = document.createElement("pre");
      place.id = "told";
      place.hidden = true;
      place.textContent = JSON.stringify(told);
      document.body.append(place);
    }}, 400);
    </script>"""
    file = folder / "page.html"
    # The page's own policy is kept: inline scripts are what it allows.
    file.write_text(page.replace("<meta charset", f"{_WATCH}<meta charset", 1).replace("</body>", f"{run}</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / 'user'}"]
    options += [f"--window-size={width},{height}", "--virtual-time-budget=20000", "--force-dark-mode"][
        : 3 if dark else 2
    ]
    command = [CHROMIUM, *options, f"--screenshot={folder / 'page.png'}", "--dump-dom", file.as_uri()]
    for _ in range(3):  # on a busy machine the budget may be spent before the page has begun
        dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        if found := re.search(r'<pre id="told"[^>]*>(.*?)</pre>', dumped, re.DOTALL):
            return json.loads(unescape(found[1]))
    raise AssertionError(f"the script did not end: {dumped[-500:]}")


def print_pdf(page: str, folder: Path) -> Path:
    """The page as a browser prints it."""
    assert CHROMIUM is not None
    source, file = folder / "page.html", folder / "page.pdf"
    source.write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'user'}"]
    command = [CHROMIUM, *options, "--no-pdf-header-footer", f"--print-to-pdf={file}", source.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return file


def keep(file: Path, name: str) -> None:
    """Copy a file to `ARTEFACTS`."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, ARTEFACTS / name)
