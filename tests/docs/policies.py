"""Every policy that README.md and docs/*.md show passes `tidegate check` as it is copied.

Needs $TIDEGATE_BIN. Variables that a policy names are set, and files that it names are there.
"""

import base64
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.S | re.M)


def main() -> int:
    tried, faults = 0, 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in BLOCK.findall(page.read_text()):
            with tempfile.TemporaryDirectory() as directory:
                here = pathlib.Path(directory)
                for name in set(re.findall(r"\./([\w.-]+\.pem)", block)):
                    (here / name).write_text("-----BEGIN CERTIFICATE-----\n")
                (here / "openai_api_key").write_text("not-a-key\n")
                environment = {"PATH": os.environ["PATH"]}
                for number, name in enumerate(re.findall(r"\$\{(\w+)", block)):
                    secret = "whsec_" + base64.b64encode(f"{number:032}".encode()).decode()
                    environment[name] = secret if "SECRET" in name else f"some-value-of-{name}"
                if "CREDENTIALS_DIRECTORY" in environment:
                    environment["CREDENTIALS_DIRECTORY"] = directory
                policy = here / "policy.yaml"
                policy.write_text(block)
                check = [os.environ["TIDEGATE_BIN"], "check", "-c", str(policy)]
                done = subprocess.run(check, text=True, capture_output=True, env=environment)
            tried += 1
            if done.returncode:
                faults += 1
                print(f"{page.relative_to(ROOT)}:\n{block}\n{done.stderr}")
    print(f"policies in README.md and docs: {tried} checked, {faults} refused")
    return 1 if faults or tried < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
