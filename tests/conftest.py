"""What several test files share: threads, folders, notebooks that run beside the other tests."""

import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

# One thread a process, before torch is loaded: two processes with two threads each on two cores
# wait for each other and are ten times slower. Notebooks are executed with one thread, too.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ.update(THREADS)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from medtl_utils.data import Split, Task  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
BREAST = ROOT / "data" / "breastmnist.npz"
# tests of tables against prose, and of exercises; other files mark their own
CHECK = re.compile(r"test_exercises|_prose_says_|summary_(follows|is|in_words)|_table_was_made_")
hypothesis.settings.register_profile("course", deadline=None)  # notebooks run at the same time
hypothesis.settings.load_profile("course")


def pytest_collection_modifyitems(items):
    """`check` is set; browser tests come first, executed notebooks last."""
    for item in items:
        if CHECK.search(item.nodeid) and "slow" not in item.keywords:
            item.add_marker(pytest.mark.check)
    in_browser = lambda item: "/browser/" in item.nodeid
    items.sort(key=lambda item: (not in_browser(item), "in_background" in item.keywords))


def run_offline(
    command: list[str], timeout: int = 1800, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command without a network, with one thread, behind the tests that run in front.

    In its own network namespace where that is allowed, and always with Python's sockets cut.
    """
    cut = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    if not (
        shutil.which("unshare")
        and shutil.which("ip")
        and subprocess.run([*cut, "true"], capture_output=True).returncode == 0
    ):
        cut = []
    behind = ["nice", "-n", "10"] if shutil.which("nice") else []
    offline = {"PYTHONPATH": str(ROOT / "tests" / "offline")}
    env = {**os.environ, **THREADS, **offline, **environment}
    return subprocess.run(
        [*behind, *cut, *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=env,
    )


def nbval(notebook: Path, **environment: str) -> subprocess.CompletedProcess:
    """One notebook under strict nbval, offline."""
    options = ["--nbval", "--nbval-cell-timeout", "1800"]
    options += ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval_sanitize.cfg")]
    quiet = ["-p", "tests.nbval_lenient", "-p", "no:cacheprovider", "--tb=short"]
    quiet += ["--override-ini", "addopts=-q"]
    command = [sys.executable, "-m", "pytest", *options, *quiet, str(notebook)]
    return run_offline(command, **environment)


def own_folders(folder: Path) -> dict[str, str]:
    """Environment of a process that writes outputs, and openings of test sets, for itself."""
    return {"MEDTL_OUTPUT": str(folder / "outputs"), "MEDTL_LEDGER": str(folder / "ledger")}


def printed_seconds(notebook: Path) -> int:
    """How long it takes, by its header; 0 where it does not say."""
    found = re.search(r"To run \| about (\d+) seconds", notebook.read_text(encoding="utf-8"))
    return int(found[1]) if found else 0


class Background:
    """Jobs that run beside the session; a test waits for its own.

    One at a time at first, beside the browser, which needs a core for itself; then two.
    """

    def __init__(self):
        self.pool, self.places = ThreadPoolExecutor(2), threading.Semaphore(1)
        self.jobs: dict[str, Future] = {}
        self.alone = True

    def start(self, name: str, job, *arguments) -> None:
        self.jobs[name] = self.pool.submit(self._run, job, *arguments)

    def _run(self, job, *arguments):
        with self.places:
            return job(*arguments)

    def two_at_a_time(self) -> None:
        if self.alone:
            self.alone = False
            self.places.release()

    def result(self, name: str):
        return self.jobs[name].result()


@pytest.fixture(scope="session")
def background(request, tmp_path_factory):
    """What the chosen tests marked `in_background(job=...)` need, started at once, longest first.

    `job(path, folder)` gets the parameter `path` of the test, a notebook, and an empty folder.
    """
    running = Background()
    waiting = [i for i in request.session.items if i.get_closest_marker("in_background")]
    for item in sorted(waiting, key=lambda item: -printed_seconds(item.callspec.params["path"])):
        job, folder = item.get_closest_marker("in_background").kwargs["job"], "background"
        path = item.callspec.params["path"]
        running.start(item.nodeid, job, path, tmp_path_factory.mktemp(folder))
    yield running
    running.two_at_a_time()
    running.pool.shutdown(cancel_futures=True)


@pytest.fixture
def done(request, background) -> subprocess.CompletedProcess:
    """The result of this test's own job in the background."""
    return background.result(request.node.nodeid)


@pytest.fixture(autouse=True)
def jobs_have_begun(request):
    running = request.getfixturevalue("background")
    if "/browser/" not in request.node.nodeid:
        running.two_at_a_time()


def make_split(
    name="train", n=24, patients=None, seed=0, size=32, classes=("benign", "malignant"), positive=1
) -> Split:
    """A tiny split whose classes differ in brightness: a network learns it in a few steps."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(np.arange(n) % len(classes))
    images = (
        torch.from_numpy(rng.integers(0, 100, (n, 1, size, size)).astype(np.uint8))
        + (labels * 60).to(torch.uint8)[:, None, None, None]
    )
    people = np.array([f"{name}-{i}" for i in range(n)]) if patients is None else patients
    return Split(name, images, labels, classes, positive, people)


@pytest.fixture
def tiny_task() -> Task:
    return Task(
        "tiny",
        make_split("train"),
        make_split("val", 12, seed=1),
        "a card",
        make_split("test", 16, seed=2),
    )


@pytest.fixture(autouse=True)
def private_folders(tmp_path, monkeypatch):
    """Tests write neither into the repository's outputs/ nor into the user's ledger."""
    for name, folder in own_folders(tmp_path).items():
        monkeypatch.setenv(name, folder)


@pytest.fixture
def shown(monkeypatch) -> list:
    """What a widget displays, in place of a browser."""
    pages = []
    monkeypatch.setattr("IPython.display.display", lambda thing, raw=False: pages.append(thing))
    return pages


def picture(box) -> str:
    """The HTML that a widget shows at the moment: figure and caption, or an error's words."""
    return box.children[-1].value
