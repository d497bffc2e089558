"""Which torch pip would install, said before it is downloaded.

    torch_wheel.py wanted REQUIREMENTS  ends with 0 where they pin a torch that is not installed
    torch_wheel.py index REQUIREMENTS   prints PyTorch's index of CPU builds where it answers and has the pinned version
    torch_wheel.py say <REPORT          prints what pip's dry run would fetch: torch's build, its size, that of all
"""

import concurrent.futures
import http.client
import importlib.metadata
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 3  # to wait for an answer


def certificates():
    """As pip takes them."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.cert"]
    own = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or own or None)


def pinned(requirements):
    found = re.search(r"^torch==(\S+)", pathlib.Path(requirements).read_text(), re.M)
    return found[1] if found else None


def wanted(requirements):
    try:
        installed = importlib.metadata.version("torch").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        installed = None
    sys.exit(0 if pinned(requirements) not in (None, installed) else 1)


def index(requirements):
    version = pinned(requirements)
    with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=SECONDS, context=certificates()) as page:
        names = urllib.parse.unquote(page.read().decode())
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if re.search(rf"torch-{re.escape(version)}(\+cpu)?-{python}-{python}-\w*linux\w*_{os.uname().machine}\.whl", names):
        print(CPU_INDEX)


def size_of(url, context):
    if url.startswith("file:"):
        return os.path.getsize(urllib.request.url2pathname(urllib.parse.urlparse(url).path))
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:
        return int(answer.headers["Content-Length"])


def say(report):
    urls = {item["metadata"]["name"]: item["download_info"]["url"] for item in json.loads(report)["install"]}
    if "torch" not in urls:
        return
    context = certificates()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sizes = dict(zip(urls, pool.map(lambda url: size_of(url, context), urls.values())))
    wheel = urllib.parse.unquote(urls["torch"].rsplit("/", 1)[1])
    gpu = any(name.startswith("nvidia-") for name in urls)
    print(f"torch: {wheel} from {urllib.parse.urlparse(urls['torch']).netloc or 'this machine'}, "
          f"{sizes['torch'] / 1e6:,.0f} MB, with all that it needs {sum(sizes.values()) / 1e6:,.0f} MB"
          + (": the build for GPUs, on the disk almost twice as much" if gpu else ""))  # fmt: skip


if __name__ == "__main__":
    try:
        if sys.argv[1] == "say":
            say(sys.stdin.read())
        else:
            {"wanted": wanted, "index": index}[sys.argv[1]](sys.argv[2])
    except (OSError, http.client.HTTPException, ValueError, TypeError, LookupError):  # no answer, or one that is not understood: pip asks by itself
        pass
