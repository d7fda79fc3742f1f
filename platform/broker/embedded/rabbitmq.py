"""A private RabbitMQ: one node and its epmd, both on loopback alone, with a user and a virtual host of its own.

Debian's program is run directly, as an ordinary user. Left to itself a node starts an epmd that listens on every address
and outlives it, so the house starts the epmd first, as a process like any other; the node then finds it and starts none.
"""

import json
import os
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pika.exceptions import AMQPError

from broker.children import Account
from broker.embedded.service import (
    Running,
    Service,
    ServiceError,
    kept_secret,
    own_folder,
    require_reachable,
    start,
    unprivileged_account,
)
from broker.processes import claim, free_port_range, is_free
from bus.amqp import close_quietly, connect

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""Not the ones on PATH: those insist on being root or Debian's own user."""
USER = "tribook"
VHOST = "tribook"
NODE = "tribook@localhost"
PORTS = "ports.json"
PORTS_USED = 3
PORT_FIRST = 20_880
"""Below the ports that the kernel gives to anybody: a node takes seconds to listen, and again after a kill."""
MEMORY_MAX = "1GB"
"""Above it the node stops reading from whoever publishes. A quiet node holds a fifth of it already."""
DISK_FREE_MIN = "64MB"
WAL_BYTES = 16 * 1024**2
WITHIN_S = 120.0


@dataclass(slots=True)
class RunningRabbit:
    """A node that answers, and how it is asked, stopped and started again at the same address."""

    node: Running
    epmd: Running
    base: Path
    log: Path

    @property
    def url(self) -> str:
        return self.node.url

    @property
    def pid(self) -> int:
        return self.node.pid

    def kill(self) -> None:
        """The node dies on the spot, as by a power cut."""
        self.node.process.kill()
        self.node.process.wait()

    def start_again(self) -> None:
        self.node = start(self.node.service, log=self.log, within_s=WITHIN_S)

    def drop_connections(self) -> None:
        """Every client is thrown out. Raises ServiceError when the node does not obey."""
        _call(
            self.base, '[rabbit_networking:close_connection(P, "dropped") || P <- rabbit_networking:connections()].\n'
        )

    def set_memory_watermark(self, part: float) -> None:
        """Raise the memory alarm (0.0001) or take it back (0.4). Raises ServiceError when the node does not obey."""
        _call(self.base, f"vm_memory_monitor:set_vm_memory_high_watermark({part}).\n")

    def stop(self) -> None:
        """The node, then its epmd; nothing of either is left."""
        self.node.stop()
        self.epmd.stop()


def start_rabbitmq(data: Path) -> RunningRabbit:
    """Start the private node of this data folder alone. Raises ServiceError when it cannot."""
    data.mkdir(parents=True, exist_ok=True)
    epmd, node = rabbitmq_services(data)
    log = data / "rabbitmq.log"
    running = start(epmd, log=data / "epmd.log")
    try:
        return RunningRabbit(start(node, log=log, within_s=WITHIN_S), running, data / "rabbitmq", log)
    except ServiceError:
        running.stop()
        raise


def rabbitmq_services(data: Path) -> tuple[Service, Service]:
    """Describe the epmd and the node of this data folder, in the order they start. Raises ServiceError without a program.

    The ports are chosen here, so that a restarted node is where it was.
    """
    program = find_program()
    account = unprivileged_account()
    require_reachable(data, account)
    base = own_folder(data / "rabbitmq", account)
    epmd_port, port, dist_port = _ports(base / PORTS)
    settings = _settings(base, epmd_port=epmd_port, port=port, dist_port=dist_port)
    password = kept_secret(data / "secrets" / "rabbitmq-password")
    url = f"amqp://{USER}:{password}@127.0.0.1:{port}/{VHOST}"

    def prepare() -> None:
        _own_file(base / "rabbitmq.conf", _configuration(password), account)
        _own_file(base / "enabled_plugins", "[].\n", account)

    epmd = Service(
        name="epmd",
        command=(
            *("/usr/bin/env", "-i", "PATH=/usr/bin:/bin"),
            *("epmd", "-address", "127.0.0.1", "-port", str(epmd_port)),
        ),
        url=f"epmd://127.0.0.1:{epmd_port}",
        is_ready=lambda: _epmd_answers(epmd_port),
        account=account,
    )
    node = Service(
        name="rabbitmq",
        command=("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in settings.items()), str(program)),
        url=url,
        is_ready=lambda: answers(url) and not leaderless(base),
        before_start=prepare,
        account=account,
    )
    return epmd, node


def find_program() -> Path:
    """Debian's node. Raises ServiceError when it is not installed."""
    program = PROGRAMS / "rabbitmq-server"
    if not program.exists():
        raise ServiceError("No RabbitMQ is here. Install Debian's rabbitmq-server, or set AMQP_URL.")
    return program


def answers(url: str) -> bool:
    with suppress(AMQPError, OSError):
        close_quietly(connect(url))
        return True
    return False


# ------------------------------------------------------------------------------------------------------------- settings


def _settings(base: Path, *, epmd_port: int, port: int, dist_port: int) -> dict[str, str]:
    """The node's whole environment: nothing of ours and nothing of /etc/rabbitmq gets in."""
    return {
        "PATH": "/usr/lib/rabbitmq/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(base),
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
        "RABBITMQ_LOG_BASE": str(base / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(base / "rabbitmq.pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": "/dev/null",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 2:2",
        # With it the script becomes the node instead of a shell around it: one process to signal, one to wait for.
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
    }


def _configuration(password: str) -> str:
    return (
        f"default_user = {USER}\n"
        f"default_pass = {password}\n"
        f"default_vhost = {VHOST}\n"
        f"vm_memory_high_watermark.absolute = {MEMORY_MAX}\n"
        f"raft.wal_max_size_bytes = {WAL_BYTES}\n"
        f"disk_free_limit.absolute = {DISK_FREE_MIN}\n"
        "log.console = true\n"
        "log.console.level = warning\n"
        "heartbeat = 10\n"
    )


def _own_file(path: Path, text: str, account: Account | None) -> None:
    """A file that the node's user alone may read, whole or not at all."""
    unfinished = path.with_suffix(".part")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
    unfinished.replace(path)


def _ports(path: Path) -> tuple[int, int, int]:
    """epmd's, AMQP's and the distribution's port: those of before where they are free, so that addresses stay."""
    kept = json.loads(path.read_text()) if path.exists() else []
    if len(kept) == PORTS_USED and all(is_free(port) and claim(port) for port in kept):
        chosen = kept
    else:
        first = free_port_range(PORT_FIRST, PORTS_USED)
        chosen = list(range(first, first + PORTS_USED))
        path.write_text(json.dumps(chosen))
    epmd_port, port, dist_port = chosen
    return epmd_port, port, dist_port


def _epmd_answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


LEADERLESS = (
    "Q = [amqqueue:get_pid(Q) || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue], "
    "C = [{rabbit_stream_coordinator, node()} || whereis(rabbit_stream_coordinator) =/= undefined], "
    "P = [X || X <- C ++ Q, ra_leaderboard:lookup_leader(element(1, X)) =:= undefined], "
    "[ra:trigger_election(X) || X <- P], length(P).\n"
)


def leaderless(base: Path) -> bool:
    """Whether quorum queues wait for a leader; those are told to elect one.

    A node that restarts alone may forget to, when clients come early (rabbitmq-server#10070): it would then refuse whatever is
    published to that queue, for ever.
    """
    try:
        return _call(base, LEADERLESS).strip() not in ("{ok,0}", "{ok, 0}")
    except ServiceError:
        return True


def _call(base: Path, expression: str) -> str:
    """Evaluate in the node, as its own tools do but without their two seconds. Raises ServiceError."""
    epmd_port = json.loads((base / PORTS).read_text())[0]
    cookie = (base / ".erlang.cookie").read_text()
    called = subprocess.run(
        ["erl_call", "-c", cookie, "-sname", NODE, "-e"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(base), "ERL_EPMD_PORT": str(epmd_port)},
        input=expression,
        capture_output=True,
        text=True,
        check=False,
    )
    if called.returncode:
        raise ServiceError(f"the node refuses {expression}: {called.stdout}{called.stderr}")
    return called.stdout
