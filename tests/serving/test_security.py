"""API keys and TLS."""

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.classifier import Classifier
from serving.errors import ConfigurationError
from serving.http import Endpoint
from serving.security import KeyRing, read_keys, tls_context

OPEN = ("/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny.onnx-fp32/ready")


@pytest.fixture(scope="module")
def client(classifier: Classifier, served_aside: Any) -> Iterator[httpx.Client]:
    with served_aside(Endpoint(classifier, keys=KeyRing(["first-key", "second-key"]))) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer second-key"},
        {"x-api-key": "second-key"},
    ],
)
def test_a_key_opens(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.post("/predict", json={"text": "red"}, headers=headers).json()["label"] == "red"
    assert client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer first-ke"},
        {"authorization": "Bearer first-key2"},
        {"authorization": "Basic first-key"},
        {"authorization": "first-key"},
        {"x-api-key": ""},
        {"x-api-key": "FIRST-KEY"},
        {"x-api-key": "ключ".encode()},
    ],
)
def test_nothing_else_does(client: httpx.Client, headers: Any) -> None:
    answer = client.post("/predict", json={"text": "red"}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json() == {"error": "an API key is needed; send it as Authorization: Bearer KEY"}
    for path in ("/metadata", "/metrics", "/openapi.json", "/v2/models/tiny.onnx-fp32"):
        assert client.get(path, headers=headers).status_code == 401


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_keys_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# in use since May\n alpha \n\nbeta\n")
    ring = read_keys(path)
    assert [ring.admits({b"x-api-key": key}) for key in (b"alpha", b"beta", b"", b"# in use since May")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no key"),
        (b"# none\n", "holds no key"),
        (b"\xff", "not text in UTF-8"),
        (b"a b", "no header can carry"),
    ],
)
def test_key_files_that_are_wrong(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        read_keys(path)
    assert "a b" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of one's own for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "cert.pem", folder / "key.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    files = ("-out", str(made[0]), "-keyout", str(made[1]))
    subprocess.run(["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True)
    return made


def test_https_with_a_key(
    start_server: Any, shared_bundle: Any, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k\n")
    certificate_, key = map(str, certificate)
    options = ("--tls-cert", certificate_, "--tls-key", key, "--api-key-file", str(keys))
    with start_server(shared_bundle.folder, *options) as running:
        url = running.url.replace("http:", "https:")
        trust = ssl.create_default_context(cafile=certificate_)
        with httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
            assert client.post("/predict", json={"text": "red"}, headers={"x-api-key": "k"}).json()["label"] == "red"
            assert client.post("/predict", json={"text": "red"}).status_code == 401
            assert client.post("/predict", content=b"a" * (2 << 20), headers={"x-api-key": "k"}).status_code == 413
            assert client.get("/healthz").status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(running.url + "/healthz", trust_env=False)
        running.process.terminate()
        assert running.process.wait(timeout=30) == 0


def test_tls_takes_both_files(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    assert tls_context(None, None) is None
    with pytest.raises(ConfigurationError, match="both --tls-cert and --tls-key"):
        tls_context(certificate[0], None)
    with pytest.raises(ConfigurationError, match="no PEM certificate and its key"):
        tls_context(certificate[1], certificate[1])
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        tls_context(tmp_path / "none", certificate[1])


@pytest.mark.parametrize("option", ["--api-key-file", "--tls-cert"])
def test_a_file_that_is_not_there_is_one_line(shared_bundle: Any, option: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--bundle", str(shared_bundle.folder), "--port", "0"]
    completed = subprocess.run(
        [*command, option, str(tmp_path / "none")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (completed.returncode, completed.stdout) == (2, "")
    (line,) = completed.stderr.splitlines()
    assert line.startswith("error: ")
