"""Large wheels from an index that counts: nothing is fetched twice, nothing wrong is trusted."""

from __future__ import annotations

import os
import random
import resource
import shutil
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from large_index import LargeIndex, sha256
from small_index import build_wheel

from env_manager.errors import EnvError, InstallStopped
from env_manager.fetching.download import Transfers, WheelFile
from env_manager.fetching.watch import StepWatch
from env_manager.fetching.web import Access, shown
from env_manager.fetching.wheels import WheelSize
from env_manager.fetching.wheelstore import WheelStore, plain_name
from env_manager.keeping.disk import CachedWheel
from env_manager.progress import StepProgress

CERTIFICATE = Path(__file__).with_name("loopback.pem")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of 40 MB that nothing can compress."""
    return build_wheel(
        tmp_path_factory.mktemp("large"), "fx-large", "1.0", payload=random.Random(1).randbytes(40 * MEGABYTE)
    )


@pytest.fixture
def index(original: Path, tmp_path: Path) -> Iterator[LargeIndex]:
    folder = tmp_path / "wheels"
    folder.mkdir()
    os.link(original, folder / original.name)
    index = LargeIndex(folder)
    yield index
    index.faults.release.set()
    index.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LargeIndex]:
    """A second server: another origin."""
    folder = tmp_path / "other"
    folder.mkdir()
    index = LargeIndex(folder)
    yield index
    index.close()


class Fetch:
    """One wheel, one store, as many attempts as a test makes."""

    def __init__(self, index: LargeIndex, folder: Path) -> None:
        self.index = index
        self.source = next(index.folder.glob("*.whl"))
        self.store = WheelStore(folder / "store")
        self.wheel = WheelFile(index.wheel_url(self.source), sha256(self.source), self.source.stat().st_size)
        self.environ: dict[str, str] = {"HOME": str(folder)}

    @property
    def size(self) -> int:
        return self.wheel.size or 0

    def part_bytes(self) -> int:
        return self.store.part_bytes(self.wheel.sha256)

    def run(
        self,
        retries: int = 0,
        cancelled: Callable[[], bool] = lambda: False,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Transfers:
        """Fetch; raises the error that is left in the transfer."""
        self.transfers = Transfers([self.wheel], self.store, Access.from_environ(self.environ), retries)
        self.transfers.run(on_tick=on_tick, cancelled=cancelled)
        if error := self.transfers.all[0].error:
            raise error
        found = self.store.find(self.wheel.sha256)
        assert found is not None and sha256(found) == self.wheel.sha256
        return self.transfers

    def fails(self, retries: int = 0) -> EnvError:
        """The error of a fetch that must fail, with nothing whole left behind."""
        with pytest.raises(EnvError) as caught:
            self.run(retries)
        assert self.store.find(self.wheel.sha256) is None
        assert caught.value.message and caught.value.remedy
        return caught.value


@pytest.fixture
def fetch(index: LargeIndex, tmp_path: Path) -> Fetch:
    return Fetch(index, tmp_path)


def test_a_wheel_arrives_whole_once_and_under_its_own_name(fetch):
    """The file is the source's, every byte came once, and no part is left."""
    fetch.run()
    assert fetch.store.find(fetch.wheel.sha256).name == fetch.source.name
    assert fetch.index.sent == fetch.transfers.received == fetch.size
    assert [entry.name for entry in fetch.store.folder.iterdir()] == [fetch.wheel.sha256]


def test_an_interrupted_wheel_goes_on_where_it_stopped(fetch):
    """Cut at 90 %, and nothing of these is fetched again."""
    fetch.index.faults.cut_at = fetch.size * 9 // 10
    assert fetch.fails().code == "index-unreachable"
    assert fetch.part_bytes() == fetch.size * 9 // 10
    fetch.run()
    assert fetch.index.sent == fetch.size
    assert fetch.index.answers[1].headers["If-Range"] == '"one"'


def test_a_dropped_connection_is_taken_up_again_by_itself(fetch):
    """A drop on the way costs no byte twice."""
    fetch.index.faults.cut_at, fetch.index.faults.cuts = fetch.size // 2, 1
    fetch.run(retries=1)
    assert fetch.index.sent == fetch.size


def test_a_cancelled_fetch_leaves_no_thread_and_keeps_what_came(fetch):
    """Cancelled while the server is silent: raised, all threads ended, the part goes on later."""
    faults = fetch.index.faults
    faults.hold_at = fetch.size // 2
    before = set(threading.enumerate())
    with pytest.raises(InstallStopped):
        fetch.run(cancelled=lambda: fetch.part_bytes() == fetch.size // 2)
    assert [each for each in set(threading.enumerate()) - before if "process_request" not in each.name] == []
    assert fetch.part_bytes() == fetch.size // 2
    faults.hold_at = None
    assert fetch.run().received == fetch.size - fetch.size // 2


def test_an_error_in_a_callback_ends_the_threads_too(fetch):
    """Whatever happens in the caller's tick, nothing goes on behind its back."""

    def tick() -> None:
        raise KeyboardInterrupt

    fetch.index.faults.hold_at = 1000
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        fetch.run(on_tick=tick)
    assert [each for each in set(threading.enumerate()) - before if "process_request" not in each.name] == []


def test_ranges_that_are_ignored_cost_the_whole_file_and_are_right(fetch):
    """A server that answers 200 to a range gives the file from its start."""
    fetch.index.faults.cut_at = fetch.size // 2
    fetch.fails()
    fetch.index.faults.ranges = False
    assert fetch.run().received == fetch.size


def test_a_file_that_changed_meanwhile_is_not_put_together_from_both(fetch, tmp_path):
    """The tag is another, so the server sends it whole; its hash is not the lock's, so it is refused and forgotten."""
    fetch.index.faults.cut_at = fetch.size // 2
    fetch.fails()
    fetch.source.unlink()
    build_wheel(fetch.index.folder, "fx-large", "1.0", payload=b"other")
    fetch.index.faults.etag = '"two"'
    assert fetch.fails().code == "hash-mismatch"
    assert fetch.part_bytes() == 0


def test_a_changed_file_without_tags_is_found_by_its_hash(fetch, original):
    """Where nothing tells versions apart the joined file has a wrong hash, and the whole is fetched once more."""
    faults = fetch.index.faults
    faults.etag, faults.cut_at = None, fetch.size // 2
    fetch.fails()
    part = fetch.store.part(fetch.wheel.sha256)
    part.write_bytes(b"PK\x03\x04" + bytes(fetch.size // 2 - 4))
    assert fetch.run().received == fetch.size // 2 + fetch.size + fetch.size % 2


def test_a_part_that_was_whole_already_needs_no_request(fetch):
    """Killed between the last byte and the rename: the hash is checked, nothing is asked."""
    fetch.store.folder.mkdir()
    shutil.copy(fetch.source, fetch.store.part(fetch.wheel.sha256))
    assert fetch.run().received == 0
    assert fetch.index.answers == []


def test_a_part_larger_than_the_wheel_is_started_over(fetch):
    """Garbage in the folder costs time, not truth."""
    fetch.store.folder.mkdir()
    fetch.store.part(fetch.wheel.sha256).write_bytes(bytes(fetch.size + 1))
    fetch.run()


def test_a_range_that_begins_elsewhere_is_not_appended(fetch):
    """The server's own word on what it sends counts."""
    fetch.index.faults.cut_at = fetch.size // 2
    fetch.fails()
    fetch.index.faults.wrong_start = True
    assert fetch.fails().code == "index-unreachable"
    fetch.index.faults.wrong_start = False
    fetch.run()


def test_a_weak_tag_is_not_asked_by(fetch):
    """A weak tag does not promise the same bytes; the date does."""
    fetch.index.faults.etag, fetch.index.faults.modified = 'W/"one"', "Thu, 01 Jan 2026 00:00:00 GMT"
    fetch.index.faults.cut_at = fetch.size // 2
    fetch.fails()
    fetch.run()
    assert fetch.index.answers[1].headers["If-Range"] == "Thu, 01 Jan 2026 00:00:00 GMT"


def test_a_server_in_trouble_is_asked_again(fetch):
    """Two answers of 503, then the wheel."""
    fetch.index.faults.status, fetch.index.faults.statuses = 503, 2
    fetch.run(retries=2)


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        ({"status": 500}, "index-unreachable", "500"),
        ({"status": 404}, "index-invalid", "404"),
        ({"status": 403}, "index-refused", "403"),
        ({"html": True}, "index-invalid", "web page"),
        ({"encoding": "gzip"}, "index-invalid", "packed"),
        ({"redirect": "/wheels/again"}, "index-invalid", "without end"),
        ({"redirect": "file:///etc/hostname"}, "index-invalid", "not the web"),
        ({"cut_at": 1_000_000, "cuts": 9, "ranges": False}, "index-unreachable", "ended after"),
        ({"cut_at": 0}, "index-unreachable", "ended after"),
    ],
)
def test_a_server_that_misbehaves_is_named(fetch, faults, code, words):
    """Each bad answer is a plain error with its cause, and nothing is taken for the wheel."""
    for name, value in faults.items():
        setattr(fetch.index.faults, name, value)
    error = fetch.fails(retries=1)
    assert error.code == code
    assert words in error.message


def test_a_page_that_is_sent_as_a_file_is_not_stored(fetch):
    """A login page without a content type of its own is known by its first bytes."""
    fetch.source.unlink()
    fetch.source.write_text("<!DOCTYPE html><title>Please sign in</title>")
    assert fetch.fails().code == "index-invalid"
    assert fetch.part_bytes() == 0


def test_a_wrong_hash_is_refused_and_nothing_of_it_kept(fetch):
    """Also a wheel in good form is not the wheel."""
    fetch.source.unlink()
    build_wheel(fetch.index.folder, "fx-large", "1.0", payload=b"other")
    assert fetch.fails().code == "hash-mismatch"
    assert list(fetch.store.folder.iterdir()) == []


def test_a_silent_server_is_given_up(fetch):
    """The configured patience counts."""
    fetch.environ["UV_HTTP_TIMEOUT"] = "1"
    fetch.index.faults.hold_at = 1000
    assert fetch.fails().code == "index-unreachable"


def test_the_network_is_not_blamed_for_the_disk(fetch):
    """A file that may not grow any further ends the fetch at once; what came is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (fetch.size // 2, hard))
    try:
        assert fetch.fails(retries=9).code == "system-error"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(fetch.index.answers) == 1
    assert fetch.part_bytes() == fetch.size // 2


@pytest.mark.parametrize("name", ["../../evil-1.0-py3-none-any.whl", "evil.whl", "a b-1-py3-none-any.whl", ".whl", ""])
def test_a_name_that_is_not_a_wheels_is_refused(name):
    """The name comes from the index and becomes a file here."""
    assert not plain_name(name)


def test_local_versions_and_build_tags_are_names_of_wheels():
    """As torch's own."""
    assert plain_name("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    assert plain_name("fx-1!1.0-2-py2.py3-none-any.whl")


def test_wheels_that_nothing_needs_are_collected(fetch):
    """What is needed stays; whole and partial wheels of others go, and other files are not touched."""
    fetch.run()
    fetch.store.part("a" * 64).write_bytes(b"part")
    (fetch.store.folder / "notes.txt").write_text("mine")
    assert fetch.store.collect({fetch.wheel.sha256}) == ("a" * 64,)
    assert fetch.store.find(fetch.wheel.sha256)
    assert fetch.store.collect(()) == (fetch.wheel.sha256,)
    assert [entry.name for entry in fetch.store.folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("entry", "file_name", "same"),
    [
        (("torch", "2.13.0+cpu", "cp311-cp311-manylinux_2_28_x86_64"), "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        (("torch", "2.13.0+cpu", "cp312-cp312-manylinux_2_28_x86_64"), "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        (("torch", "2.13.0", "cp311-cp311-win_amd64"), "torch-2.13.0+cpu-cp311-cp311-win_amd64.whl", False),
        (("regex", "1.0", "516d0c2242d49034"), "regex-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        (("fx-a", "1.0", "py3-none-any"), "fx_a-1.0-1-py3-none-any.whl", True),
    ],
)  # fmt: skip
def test_a_cached_wheel_is_known_by_version_and_python(entry, file_name, same):
    """The same version for another Python is another wheel; a digest of tags cannot be told apart."""
    assert CachedWheel(*entry).is_of(entry[0], file_name) is same


def test_what_was_in_the_cache_before_has_not_come_now(tmp_path, recorder):
    """Another version of a package in the cache is no progress; a new entry is."""
    entries = tmp_path / "wheels-v7/pypi/fx-a"
    entries.mkdir(parents=True)
    (entries / "1.0-py3-none-any.http").touch()
    step = StepProgress("one", "One", "waiting")
    watch = StepWatch(step, {"fx-a": 700}, {"fx-a": WheelSize(700, 900)}, tmp_path, recorder)
    watch.tick()
    assert (watch.progress.bytes_done, watch.progress.bytes_total) == (0, 700)
    unpacking = tmp_path / ".tmpx"
    unpacking.mkdir()
    (unpacking / "file").write_bytes(bytes(450))
    watch.tick()
    assert watch.progress.bytes_done == 350
    (entries / "1.1-py3-none-any.http").touch()
    watch.tick()
    assert watch.progress.bytes_done == 700


BOB = "Basic " + b64encode(b"bob:p w").decode()


def test_the_password_in_the_indexs_address_is_used(fetch):
    """As in `https://bob:p%20w@host/simple`."""
    fetch.index.faults.password = BOB
    assert fetch.fails().code == "index-refused"
    fetch.environ["UV_DEFAULT_INDEX"] = fetch.index.url.replace("http://", "http://bob:p%20w@")
    fetch.run()


def test_the_password_of_a_named_index_is_used(fetch):
    """`UV_INDEX_<NAME>_USERNAME` and its password."""
    fetch.index.faults.password = BOB
    fetch.environ |= {"UV_INDEX": f"corp={fetch.index.url}", "UV_INDEX_CORP_USERNAME": "bob"}
    fetch.environ["UV_INDEX_CORP_PASSWORD"] = "p w"
    fetch.run()


def test_the_password_in_netrc_is_used_for_its_host_only(fetch, tmp_path):
    """A default entry would tell a password to whoever a redirect names."""
    fetch.index.faults.password = "Basic " + b64encode(b"bob:secret").decode()
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login bob password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    fetch.run()
    fetch.store.discard(fetch.wheel.sha256)
    (tmp_path / ".netrc").write_text("default login bob password secret\n")
    assert fetch.fails().code == "index-refused"


def test_a_password_does_not_follow_to_another_origin(fetch, other):
    """A redirect to another port is another origin: it gets the request, but no password."""
    shutil.copy(fetch.source, other.folder)
    fetch.environ["UV_DEFAULT_INDEX"] = fetch.index.url.replace("http://", "http://bob:p%20w@")
    fetch.index.faults.redirect = other.wheel_url(fetch.source)
    fetch.run()
    assert fetch.index.answers[0].headers["Authorization"] == BOB
    assert "Authorization" not in other.answers[0].headers


def test_addresses_are_shown_without_what_is_secret():
    """Neither user, password, query nor fragment."""
    assert shown("https://bob:secret@host:8/a.whl?token=1#x") == "https://host:8/a.whl"


def test_the_proxy_is_asked_and_spared_as_configured(fetch, other):
    """HTTP_PROXY with its password; not for a host in NO_PROXY."""
    shutil.copy(fetch.source, other.folder)
    fetch.environ["HTTP_PROXY"] = other.url.replace("http://", "http://bob:p%20w@").replace("/simple", "")
    fetch.run()
    assert other.answers[0].path == fetch.wheel.url
    assert other.answers[0].headers["Proxy-Authorization"] == BOB
    assert fetch.index.answers == []
    fetch.store.discard(fetch.wheel.sha256)
    fetch.environ["NO_PROXY"] = "127.0.0.1"
    fetch.run()
    assert len(other.answers) == 1


def test_what_only_uv_can_reach_is_left_to_it():
    """A keyring or a proxy that is not plain HTTP."""
    assert Access.from_environ({}).left_to_uv() is None
    assert Access.from_environ({"UV_KEYRING_PROVIDER": "subprocess"}).left_to_uv()
    assert Access.from_environ({"ALL_PROXY": "socks5://127.0.0.1:1"}).left_to_uv()


@pytest.fixture
def secure(fetch: Fetch) -> Fetch:
    """The same index over TLS with a certificate that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    fetch.index.server.socket = context.wrap_socket(fetch.index.server.socket, server_side=True)
    fetch.wheel = WheelFile(fetch.wheel.url.replace("http:", "https:"), fetch.wheel.sha256, fetch.size)
    return fetch


def test_an_unknown_certificate_is_refused(secure):
    """Nothing is fetched from a server that cannot prove who it is."""
    assert secure.fails().code == "certificate-unknown"
    assert secure.index.answers == []


def test_the_configured_certificate_is_trusted(secure):
    """`cert` of pip's configuration arrives as SSL_CERT_FILE; interrupted TLS goes on as well."""
    secure.environ["SSL_CERT_FILE"] = str(CERTIFICATE)
    secure.index.faults.cut_at = secure.size // 2
    secure.run(retries=1)
    assert secure.index.sent == secure.size


def test_a_trusted_host_needs_no_certificate(secure):
    """`trusted-host` of pip's configuration, for this host and no other."""
    secure.environ["UV_INSECURE_HOST"] = "elsewhere"
    assert secure.fails().code == "certificate-unknown"
    secure.environ["UV_INSECURE_HOST"] = f"elsewhere 127.0.0.1:{secure.index.server.server_address[1]}"
    secure.run()
