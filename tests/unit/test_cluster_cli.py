"""What the commands that ask a cluster say where it cannot be asked: one line, whichever of them it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import Namespace
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pilotboat import cli, cluster_cli
from pilotboat.engine.api import Api
from pilotboat.engine.errors import Unavailable
from pilotboat.engine.kinds import MODEL_DEPLOYMENT

CONFIG = """
apiVersion: v1
kind: Config
current-context: one
clusters: [{{name: k, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts:
- {{name: one, context: {{cluster: k, user: u}}}}
- {{name: two, context: {{cluster: k, user: u, namespace: team}}}}
"""
REHEARSAL = "deployment: {namespace: a, name: b}\nfaults: [{name: f, kind: deletePod}]\n"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    return write(tmp_path / "kubeconfig", 9)


def write(path: Path, port: int) -> Path:
    path.write_text(CONFIG.format(port=port))
    return path


@pytest.fixture(params=["rollout", "ab", "rehearse"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], int]:
    """A command, and its exit status where it could not ask."""
    file = tmp_path / "r.yaml"
    file.write_text(REHEARSAL)
    commands = {
        "rollout": (["rollout", "status", "chat"], 1),
        "ab": (["ab", "chat"], 1),
        "rehearse": (["rehearse", "--dry-run", str(file)], 2),
    }
    return commands[request.param]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file /"),
        (b"", "not a kubeconfig"),
        (b"these are words", "not a kubeconfig"),
        (b"- a\n- list", "not a kubeconfig"),
        (b"a: [", "not a kubeconfig"),
        (b"\xff\xfe\x00", "not a kubeconfig"),
        (b"kind: Config", "kube-config"),
        (Path(), "Is a directory"),
    ],
    ids=["absent", "empty", "words", "a list", "no YAML", "not UTF-8", "nothing in it", "a directory"],
)
def test_a_kubeconfig_that_is_none_is_one_line(
    command: tuple[list[str], int],
    content: bytes | Path | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, failed = command
    path = tmp_path / "kubeconfig"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path = tmp_path
    assert cli.main([*arguments, "--kubeconfig", str(path)]) == failed
    said = capsys.readouterr().err
    assert said.startswith("pilotboat: --kubeconfig, --context: no cluster can be reached with these: ")
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "context", "namespace"),
    [(None, None, "default"), (None, "two", "team"), ("mine", "two", "mine")],
)
def test_the_namespace_is_the_contexts_where_none_is_given(
    kubeconfig: Path, given: str | None, context: str | None, namespace: str
) -> None:
    arguments = Namespace(kubeconfig=str(kubeconfig), context=context, namespace=given)
    assert cluster_cli.namespace(arguments) == namespace


def test_a_context_that_is_not_there(
    command: tuple[list[str], int], kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, failed = command
    assert cli.main([*arguments, "--kubeconfig", str(kubeconfig), "--context", "three"]) == failed
    assert "three" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        *(["rollout", "status", name] for name in ("", "..", "a/b", "Chat")),
        *(
            ["rollout", "pause", "chat", option, ""]
            for option in ("-n", "--context", "--kubeconfig", "--to", "--revision")
        ),
        ["ab", ""],
        ["rollout", "abort", "chat", "-n", ".."],
        ["rehearse", "r.yaml", "--context", " "],
    ],
    ids=" ".join,
)
def test_what_a_variable_that_is_not_set_leaves_is_no_other_cluster_nor_all_there_is(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: argument" in last
    assert "is empty" in last or "is no name" in last


def test_a_token_that_no_header_can_hold_is_told_and_not_shown(
    command: tuple[list[str], int], kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, failed = command
    kubeconfig.write_text(kubeconfig.read_text().replace("token: t", 'token: "very-secret\\n"'))
    assert cli.main([*arguments, "--kubeconfig", str(kubeconfig)]) == failed
    said = capsys.readouterr().err
    assert said == "pilotboat: --kubeconfig: its token holds what no header can, such as the end of a line\n"


PASSWORD = "username: admin, password: very-secret"


def test_a_password_is_refused_and_not_shown(
    command: tuple[list[str], int], kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, failed = command
    kubeconfig.write_text(kubeconfig.read_text().replace("token: t", PASSWORD))
    assert cli.main([*arguments, "--kubeconfig", str(kubeconfig)]) == failed
    said = capsys.readouterr().err
    assert said.startswith("pilotboat: --kubeconfig: its user has a username and password, which Kubernetes has not ")
    assert "very-secret" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("beside", ["token: t", "client-certificate-data: YQ==, client-key-data: YQ=="])
def test_a_password_beside_something_that_counts_does_no_harm(kubeconfig: Path, beside: str) -> None:
    text = kubeconfig.read_text().replace("http:", "https:").replace("token: t", f"{PASSWORD}, {beside}")
    kubeconfig.write_text(text)
    loaded = asyncio.run(cluster_cli.credentials(Namespace(kubeconfig=str(kubeconfig), context=None)))
    assert loaded.cert_file or loaded.api_key == {"BearerToken": "Bearer t"}


async def page(_: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<p>Login</p>")
    await writer.drain()
    writer.close()


async def silence(reader: StreamReader, writer: StreamWriter) -> None:
    await reader.read()
    writer.close()


@contextlib.asynccontextmanager
async def server(answer: Callable[[StreamReader, StreamWriter], Awaitable[None]], path: Path) -> AsyncIterator[None]:
    """One that answers so, and the kubeconfig for it."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as started:
        write(path, started.sockets[0].getsockname()[1])
        yield


@pytest.mark.parametrize(
    ("answer", "words"), [(page, "answered 200 with something that is no JSON"), (silence, "did not answer within")]
)
async def test_what_is_no_api_server_is_told_in_words(
    answer: Callable[[StreamReader, StreamWriter], Awaitable[None]], words: str, kubeconfig: Path
) -> None:
    async with server(answer, kubeconfig):
        configuration = await cluster_cli.credentials(Namespace(kubeconfig=str(kubeconfig), context=None))
        async with Api(configuration, timeout=0.5) as api:
            with pytest.raises(Unavailable, match=words) as found:
                await api.get(MODEL_DEPLOYMENT, "default", "chat")
    assert "http://127.0.0.1:" in found.value.message


async def test_an_interrupt_is_one_line(command: tuple[list[str], int], kubeconfig: Path) -> None:
    arguments, failed = command
    asked = asyncio.Event()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        asked.set()
        await silence(reader, writer)

    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    async with server(answer, kubeconfig), asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pilotboat", *arguments, "--kubeconfig", str(kubeconfig)),
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        await asked.wait()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert (process.returncode, said.decode()) == (failed, "pilotboat: stopped\n")
