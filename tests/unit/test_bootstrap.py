"""The parts of setting up that decide: cutting the lock, naming what is missing, knowing when nothing is to be done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker import bootstrap
from broker.bootstrap import Place, SetupError

LOCK = """\
quickfix==1.16.0 \\
    --hash=sha256:aa
redis==8.1.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
uv==0.13.8 \\
    --hash=sha256:dd
"""


def test_the_lock_is_cut_into_one_block_per_package_and_loses_nothing() -> None:
    assert "".join(bootstrap.blocks(LOCK)) == LOCK
    assert bootstrap.only(LOCK, "redis") == "redis==8.1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    assert bootstrap.without(LOCK, "quickfix") == LOCK.split("sha256:aa\n", 1)[1]
    assert bootstrap.locked_version(LOCK, "uv") == "0.13.8"


def test_a_package_that_the_lock_does_not_name_is_an_error() -> None:
    with pytest.raises(SetupError, match="names ccxt 0 times"):
        bootstrap.only(LOCK, "ccxt")


def test_the_real_lock_has_hashes_for_everything_and_names_no_registry() -> None:
    lock = bootstrap.LOCK.read_text()
    assert "://" not in lock
    assert all("--hash=sha256:" in block for block in bootstrap.blocks(lock))
    assert bootstrap.locked_version(lock, "quickfix") == "1.16.0"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(venv=tmp_path / "venv", wheels=tmp_path / "cache" / "wheels")
    (made.venv / "bin").mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    return made


def test_an_environment_is_current_only_for_the_lock_it_was_made_from(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCK)
    monkeypatch.setattr(bootstrap, "LOCK", lock)
    assert not bootstrap.is_current(place)
    place.stamp.write_text(bootstrap.stamp_for(place))
    assert bootstrap.is_current(place)
    lock.write_text(LOCK.replace("8.1.0", "8.1.1"))
    assert not bootstrap.is_current(place)


def test_an_environment_whose_python_is_gone_is_not_current(place: Place) -> None:
    place.stamp.write_text(bootstrap.stamp_for(place))
    place.python.unlink()
    assert not bootstrap.is_current(place)


def test_a_compiled_wheel_is_taken_only_for_the_same_version_and_python(place: Place) -> None:
    place.wheels.mkdir(parents=True)
    tag = bootstrap.abi_tag(sys.executable)
    for name in (f"quickfix-1.15.9-{tag}-{tag}-linux_x86_64.whl", "quickfix-1.16.0-cp39-cp39-linux_x86_64.whl"):
        (place.wheels / name).touch()
    assert bootstrap.find_wheel(place, LOCK, sys.executable) is None
    fitting = place.wheels / f"quickfix-1.16.0-{tag}-{tag}-linux_x86_64.whl"
    fitting.touch()
    assert bootstrap.find_wheel(place, LOCK, sys.executable) == fitting


def test_who_is_not_root_is_told_the_one_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="sudo apt-get install -y --no-install-recommends g\\+\\+ python3-dev"):
        bootstrap.install_packages(["g++", "python3-dev"], why="Setting up")


def test_a_python_that_does_not_exist_lacks_the_venv_package() -> None:
    assert "python3-venv" in bootstrap.missing_packages("/nonexistent/python3.11", compiling=False)
    assert "python3-dev" in bootstrap.missing_packages("/nonexistent/python3.11", compiling=True)


def test_a_failing_command_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(SetupError, match=r"status 3.*\n.*the reason"):
        bootstrap.run_logged(command, log=tmp_path / "log")


def test_setting_up_again_when_nothing_changed_takes_less_than_a_second() -> None:
    script = bootstrap.ROOT / "platform" / "broker" / "bootstrap.py"
    environment = {**os.environ, "TRIBOOK_VENV": sys.prefix}
    if not bootstrap.is_current(bootstrap.place_from(environment)):
        pytest.skip("these tests do not run in an environment that the setup made")
    done = subprocess.run(
        [sys.executable, "-I", str(script)], env=environment, capture_output=True, text=True, timeout=1.0, check=True
    )
    assert done.stdout == ""


def test_no_folder_named_platform_hides_the_standard_library() -> None:
    code = "import platform, uuid; print(platform.__file__)"
    environment = {**os.environ, "PYTHONPATH": f"{bootstrap.ROOT}:{bootstrap.ROOT / 'platform'}"}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=bootstrap.ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().endswith("platform.py")
    assert not (bootstrap.ROOT / "platform" / "__init__.py").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
def test_what_is_installed_for_the_tests_starts_no_service(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with bootstrap.no_service_started(policy):
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("somebody's own\n")
    with bootstrap.no_service_started(policy):
        assert policy.read_text() == "somebody's own\n"
    assert policy.exists()


def test_rabbitmq_that_cannot_be_installed_does_not_stop_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(packages: list[str], *, why: str) -> None:
        raise SetupError(f"{why} needs Debian's {' '.join(packages)}.")

    monkeypatch.setattr(bootstrap, "RABBITMQ", tmp_path / "rabbitmq-server")
    monkeypatch.setattr(bootstrap, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(bootstrap, "install_packages", refuse)
    bootstrap.install_rabbitmq()
    assert "needs Debian's rabbitmq-server" in capsys.readouterr().out
    (tmp_path / "rabbitmq-server").touch()
    bootstrap.install_rabbitmq()
    assert capsys.readouterr().out == ""
