"""The real process: how it starts, answers over a socket, refuses and stops."""

import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import serving
from serving.bundle import Bundle
from serving.classifier import Classifier

REPOSITORY = Path(serving.__file__).parents[1]
FORBIDDEN = {"torch", "transformers", "peft", "datasets", "bitsandbytes", "deploycost", "pydantic", "fastapi"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


def one_line(completed: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a process that refused to start."""
    assert completed.returncode == 2
    assert completed.stdout == ""
    (line,) = completed.stderr.splitlines()
    return line


def test_what_is_announced_is_what_answers(server: Any, client: httpx.Client, shared_bundle: Bundle) -> None:
    assert set(server.announced) == {"event", "host", "port", "pid", "variant"}
    assert server.announced["event"] == "listening"
    assert server.announced["variant"] == "tiny.onnx-fp32"
    assert client.get("/readyz").status_code == 200
    assert client.get("/healthz").status_code == 200
    body = client.get("/metadata").json()
    assert body["pid"] == server.process.pid == server.announced["pid"]
    assert body["bundle_digest"] == shared_bundle.digest


def test_over_the_wire_as_in_process(client: httpx.Client, classifier: Classifier) -> None:
    texts = ["red", "blue blue grey", "green " * 20, "日本語 \x00 🦜"]
    predictions = client.post("/predict", json={"texts": texts}).json()["predictions"]
    for told, known in zip(predictions, classifier.predict(texts), strict=True):
        assert (told["label"], told["tokens"], told["truncated"]) == (known.label, known.tokens, known.truncated)
        assert told["scores"] == pytest.approx(known.scores, abs=1e-5)


def test_a_crowd_gets_each_its_own_answer(client: httpx.Client) -> None:
    words = ["red", "green", "blue"] * 40

    def ask(word: str) -> str:
        return client.post("/predict", json={"text": word}).json()["label"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, words)) == words


def test_a_body_larger_than_a_mebibyte(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    letters = b'{"text": "' + b"a" * (1 << 20) + b'"}'
    assert client.post("/predict", content=letters[20:], headers=headers).status_code == 400  # fits, is no JSON
    answer = client.post("/predict", content=letters, headers=headers)
    assert (answer.status_code, list(answer.json())) == (413, ["error"])
    assert client.post("/predict", json={"text": "red"}).status_code == 200


def test_an_endless_chunked_body_is_cut_off(server: Any) -> None:
    with socket.create_connection((server.announced["host"], server.announced["port"]), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        assert 1 << 20 <= sent_until_closed(connection, chunk, limit_bytes=64 << 20) < 64 << 20


def sent_until_closed(connection: socket.socket, chunk: bytes, limit_bytes: int) -> int:
    """Bytes that could be sent before the other side closed, or `limit_bytes`."""
    for sent in range(0, limit_bytes, len(chunk)):
        try:
            connection.sendall(chunk)
        except ConnectionError:
            return sent
    return limit_bytes


def test_a_client_that_leaves_half_way_harms_nobody(server: Any, client: httpx.Client) -> None:
    for _ in range(5):
        with socket.create_connection((server.announced["host"], server.announced["port"]), timeout=30) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            connection.sendall(b'Content-Length: 100\r\n\r\n{"text": ')
    assert client.post("/predict", json={"text": "red"}).json()["label"] == "red"


def test_what_is_not_http_is_400(server: Any) -> None:
    with socket.create_connection((server.announced["host"], server.announced["port"]), timeout=30) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_in_0(start_server: Any, shared_bundle: Bundle, number: signal.Signals) -> None:
    body = b'{"text": "blue SECRET"}'
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    with start_server(shared_bundle.folder) as running:
        address = running.announced["host"], running.announced["port"]
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(head)
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # the request is in hand
            running.process.send_signal(number)
            until_refused(address)
            connection.sendall(body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"label":"blue"' in answer
        output, errors = running.process.communicate(timeout=30)
        assert (running.process.returncode, output, errors) == (0, "", "")


def until_refused(address: tuple[str, int]) -> None:
    """Return once nobody listens at `address`; the test's own time limit is the deadline."""
    while True:
        try:
            socket.create_connection(address, timeout=30).close()
        except ConnectionError:
            return
        time.sleep(0.01)


def test_stopped_without_a_request(start_server: Any, shared_bundle: Bundle) -> None:
    with (
        start_server(shared_bundle.folder, "--threads", "2", "--max-batch", "1") as running,
        httpx.Client(base_url=running.url, trust_env=False) as client,
    ):
        assert client.get("/metadata").json()["threads"] == 2
        running.process.terminate()  # while the client keeps its idle connection open
        assert running.process.wait(timeout=30) == 0


def test_a_port_in_use(shared_bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), "--port", str(port)))
    assert (
        line == f"error: port {port} on 127.0.0.1 is in use; stop what listens there, or take a free port with --port 0"
    )


def test_an_address_that_is_not_here(shared_bundle: Bundle) -> None:
    line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), "--host", "192.0.2.1"))
    assert line.startswith("error: cannot listen on 192.0.2.1 port 8000: ")


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_is_no_name(shared_bundle: Bundle, host: str) -> None:
    line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), "--host", host))
    assert line == f"error: --host '{host}' is no name of a host; expected an address of this machine"


@pytest.mark.parametrize("place", ["nowhere", "a" * 300, ""])
def test_a_folder_for_counts_that_is_none(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", place)
    line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), "--port", "0"))
    assert line.startswith(f"error: PROMETHEUS_MULTIPROC_DIR is {place!r}, which is no folder that can be written to")


def test_threads_far_beyond_the_cores_are_refused(shared_bundle: Bundle) -> None:
    for more in (("--threads", "5000"), ("--threads", "2500", "--workers", "2")):
        line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), *more))
        assert re.fullmatch(
            r"error: --workers . --threads .*: expected at most \d+ threads together on \d+ cores", line
        )


def test_more_threads_than_cores_are_told(start_server: Any, shared_bundle: Bundle) -> None:
    cores = len(psutil.Process().cpu_affinity() or ())
    with start_server(shared_bundle.folder, "--threads", str(cores + 1)) as running:
        running.process.terminate()
        _, errors = running.process.communicate(timeout=30)
    threads = f"--threads {cores + 1}: {cores + 1} threads"
    assert errors == f"warning: --workers 1 {threads} share {cores} cores; they slow each other\n"


def test_the_limit_of_open_files_is_raised_for_the_connections(start_server: Any, shared_bundle: Bundle) -> None:
    """Beyond the connections that are taken there is an answer, and not the end of a stream."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, most))
    try:
        with start_server(shared_bundle.folder, "--max-connections", "100") as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
            address = running.announced["host"], running.announced["port"]
            with ExitStack() as opened:
                crowd = [opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(150)]
                for connection in crowd:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                told = [connection.recv(1000).split(b" ", 2)[1] for connection in crowd]
            assert told == [b"200"] * 100 + [b"503"] * 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def test_fewer_connections_are_taken_where_the_limit_stays() -> None:
    program = (
        "import resource; from serving.process import allow_connections;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 264));"
        "print(allow_connections(10), resource.getrlimit(resource.RLIMIT_NOFILE));"
        "print(allow_connections(100), resource.getrlimit(resource.RLIMIT_NOFILE));"
        "print(allow_connections(1024), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert python("-c", program).stdout.splitlines() == ["10 (100, 264)", "100 (264, 264)", "100 (264, 264)"]
    told = python(
        "-c",
        "import resource, serving.__main__; resource.setrlimit(resource.RLIMIT_NOFILE, (264, 264));"
        "serving.__main__.main(['--bundle', 'nowhere', '--port', '0'])",
    ).stderr.splitlines()
    assert told[0] == "warning: the limit of open files is too low for 1024 connections; 100 at a time are taken"


def change_a_byte(bundle: Bundle) -> None:
    content = bytearray(bundle.model_path.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.model_path.write_bytes(content)


def edit_manifest(bundle: Bundle, **changes: object) -> None:
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change_a_byte, "model.onnx was changed since it was sealed"),
        (lambda bundle: bundle.model_path.write_bytes(b""), "model.onnx was changed since it was sealed"),
        (lambda bundle: bundle.tokenizer_path.unlink(), "tokenizer.json is missing"),
        (lambda bundle: (bundle.folder / "bundle.json").unlink(), "is half-written or not a bundle"),
        (lambda bundle: edit_manifest(bundle, format_version=99), "has format 99, expected 1; upgrade deploycost"),
        (lambda bundle: edit_manifest(bundle, labels=["red", "green"]), "does not fit its labels"),
        (lambda bundle: edit_manifest(bundle, model_file="../model.onnx"), "../model.onnx is named but not sealed"),
        (lambda bundle: edit_manifest(bundle, files={"../x": {"sha256": "0" * 64, "size_bytes": 1}}), "'../x' escapes"),
        (lambda bundle: edit_manifest(bundle, engine="abacus"), "Invalid enum value 'abacus'"),
        (lambda bundle: (bundle.folder / "bundle.json").write_text("[" * 200_000), "is not a valid manifest"),
    ],
)
def test_a_damaged_bundle_is_refused_at_start(bundle: Bundle, damage: Any, sentence: str) -> None:
    damage(bundle)
    line = one_line(python("-m", "serving", "--bundle", str(bundle.folder), "--port", "0"))
    assert line.startswith("error: ")
    assert sentence in line


def test_a_bundle_whose_model_does_not_load(bundle: Bundle, manifest: Any) -> None:
    from serving.bundle import seal_bundle

    bundle.model_path.write_bytes(b"not a graph")
    seal_bundle(bundle.folder, manifest())
    line = one_line(python("-m", "serving", "--bundle", str(bundle.folder), "--port", "0"))
    assert line.startswith("error: onnxruntime cannot load ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: --bundle"),
        (("--bundle", "x", "--nope"), "unrecognized arguments: --nope"),
        (("--bundle", "x", "--threads", "0"), "argument --threads: expected a whole number from 1, got '0'"),
        (("--bundle", "x", "--max-batch", "many"), "expected a whole number from 1, got 'many'"),
        (("--bundle", "x", "--port", "65536"), "expected a port from 0 to 65535, got '65536'"),
        (("--bundle", "x", "--workers", "0"), "argument --workers: expected a whole number from 1, got '0'"),
        (("--bundle", "x", "--batch-window-ms", "-1"), "expected milliseconds from 0 to 1000, got '-1'"),
        (("--bundle", "x", "--batch-window-ms", "nan"), "expected milliseconds from 0 to 1000, got 'nan'"),
        (("--bundle", "x", "--deadline-ms", "0"), "expected whole milliseconds from 1 to 60000, got '0'"),
    ],
)
def test_arguments_that_are_wrong(arguments: tuple[str, ...], sentence: str) -> None:
    completed = python("-m", "serving", *arguments)
    assert completed.returncode == 2
    assert sentence in completed.stderr
    assert "Traceback" not in completed.stderr
    assert completed.stderr.count("\n") == 1, "no usage before it"


def test_limits_that_contradict_one_another(shared_bundle: Bundle) -> None:
    line = one_line(python("-m", "serving", "--bundle", str(shared_bundle.folder), "--max-queue", "9"))
    assert line.startswith("error: max_queue 9 could never take a request of max_texts 256; raise")


def test_limits_are_as_asked(start_server: Any, shared_bundle: Bundle) -> None:
    limits = ("--max-texts", "2", "--max-text-chars", "9", "--max-body-bytes", "90")
    with (
        start_server(shared_bundle.folder, *limits) as running,
        httpx.Client(base_url=running.url, trust_env=False) as client,
    ):
        bodies = [{"texts": ["red"] * 3}, {"text": "red " * 3}, {"texts": ["x" * 40] * 2}, {"text": "red"}]
        told = [client.post("/predict", json=body) for body in bodies]
        assert [answer.status_code for answer in told] == [413, 413, 413, 200]
        sentences = [answer.json()["error"] for answer in told[:3]]
        assert "send at most 2" in sentences[0]
        assert "send at most 9" in sentences[1]
        assert "larger than 90 bytes" in sentences[2]


def test_no_training_framework_in_the_process(shared_bundle: Bundle) -> None:
    program = (
        "import json, sys; import serving.__main__, serving.http, serving.server;"
        "from serving.classifier import Classifier;"
        f"endpoint = serving.http.Endpoint(Classifier({str(shared_bundle.folder)!r}));"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = set(json.loads(python("-c", program).stdout))
    assert {"onnxruntime", "tokenizers", "httptools"} <= loaded
    assert loaded & FORBIDDEN == set()


def test_help_imports_nothing_heavy() -> None:
    program = "import sys, serving.__main__; print(' '.join(sys.modules))"
    loaded = set(python("-c", program).stdout.split())
    assert loaded & {"numpy", "onnxruntime", "tokenizers", "httptools", "prometheus_client", "msgspec"} == set()


def test_no_text_of_a_user_is_logged(start_server: Any, shared_bundle: Bundle) -> None:
    secret = "SECRET"
    bodies = [
        json.dumps({"text": secret}).encode(),
        json.dumps({"texts": [secret, 1]}).encode(),
        json.dumps({secret: secret}).encode(),
        b'{"text": "' + secret.encode(),
        b"\xff" + secret.encode(),
    ]
    headers = {"content-type": "application/json", "x-deadline-ms": "500"}
    with start_server(shared_bundle.folder) as running:
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            for body in bodies:
                for path in ("/predict", f"/{secret}?{secret}", "/v2/models/tiny.onnx-fp32/infer"):
                    assert client.post(path, content=body, headers=headers | {"x-api-key": secret}).status_code < 500
            assert secret not in client.get("/metrics").text
        with socket.create_connection((running.announced["host"], running.announced["port"])) as connection:
            connection.sendall(f"{secret}\r\n\r\n".encode())
            connection.recv(1000)
        running.process.terminate()
        output, errors = running.process.communicate(timeout=30)
    assert (output, errors) == ("", "")


@pytest.mark.slow
def test_memory_stays_flat_over_many_requests(start_server: Any, shared_bundle: Bundle) -> None:
    requests = [{"text": "red " * (number % 40 + 1)} for number in range(200)]
    with start_server(shared_bundle.folder) as running:
        process = psutil.Process(running.process.pid)

        def ask(many: int) -> None:
            with httpx.Client(base_url=running.url, trust_env=False) as client:
                for number in range(many):
                    body = requests[number % len(requests)] if number % 5 else {"text": number}
                    assert client.post("/predict", json=body).status_code in (200, 422)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, [1000] * 4))
            before = process.memory_info().rss
            list(pool.map(ask, [1000] * 16))
        assert process.memory_info().rss - before < 4 << 20
