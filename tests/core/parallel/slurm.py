"""A SLURM of one node on this machine: munged, slurmctld and slurmd, started and stopped again.

    python -m tests.core.parallel.slurm COMMAND ...    runs a command that finds it, such as `sinfo`

It needs root and Debian's packages slurm-wlm and munge, and touches nothing outside its folder.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SLOTS = 4  # however many cores there are

CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MinJobAge=600
KillWait=5
NodeName=localhost NodeAddr=127.0.0.1 NodeHostName=localhost CPUs={slots} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def why_not() -> str | None:
    """Why it cannot run here."""
    missing = [name for name in DAEMONS if shutil.which(name, path=search_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "needs root"


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons with all their files in `folder`; gives the environment of commands."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)  # munged insists
    (folder / "slurm.conf").write_text(
        CONF.format(
            folder=folder,
            slots=SLOTS,
            controller_port=free_port(),
            node_port=free_port(),
        )
    )
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {
        **os.environ,
        "PATH": search_path(),
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"]
    munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    with contextlib.ExitStack() as running:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            log = running.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            running.callback(stop, daemon)
            if command is munge:
                wait_until(lambda: (folder / "munge.socket").exists(), "munged", folder)
        wait_until(
            lambda: "idle" in said("sinfo", "-h", "-o", "%T", env=environment), "slurmd", folder
        )
        yield environment


def said(*command: str, env: dict[str, str]) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout


def wait_until(there: Callable[[], bool], what: str, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            logs = [path.read_text()[-2000:] for path in sorted(folder.glob("*.out"))]
            raise RuntimeError("\n".join([f"{what} does not come up in {folder}", *logs]))
        time.sleep(0.1)


def stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as environment:
        sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)
