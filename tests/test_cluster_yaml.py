"""cluster.yaml: valid for Ray's own offline validator, and for what Ray does not look at."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from meddx.cluster import ENVIRONMENT

FILE = Path(__file__).parents[1] / "cluster.yaml"
PROVIDER_KEYS = {"type", "region", "availability_zone", "use_internal_ips", "cache_stopped_nodes", "security_group"}
COMMANDS = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture
def page() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def commands(page: dict[str, Any]) -> list[str]:
    return [command for key in COMMANDS for command in page[key]]


def starts(page: dict[str, Any]) -> list[str]:
    return [command for command in commands(page) if "ray start" in command]


def problems(page: dict[str, Any]) -> list[str]:
    """What Ray's validator does not see."""
    found = [f"provider key {key}" for key in set(page["provider"]) - PROVIDER_KEYS]
    found += [f"core files allowed: {one}" for one in starts(page) if "ulimit -c 0" not in one]
    found += [f"no token: {one}" for one in starts(page) if "RAY_AUTH_MODE=token" not in one or "RAY_AUTH_TOKEN_PATH=" not in one]
    found += [f"{key} not set" for one in starts(page) for key, value in ENVIRONMENT.items() if f"{key}={value}" not in one]
    found += ["open to the world"] if "0.0.0.0" in str(page) else []
    for name, node in page["available_node_types"].items():
        disks = node["node_config"]["BlockDeviceMappings"]
        found += [f"{name}: a disk is not encrypted" for disk in disks if not disk["Ebs"].get("Encrypted")]
    return found


@pytest.mark.ray
def test_ray_accepts_it(page: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(page))
    page["max_wrokers"] = 3
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(page)


def test_what_ray_does_not_look_at(page: dict[str, Any]) -> None:
    assert problems(page) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "no token"),
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "open to the world"),
        ("ulimit -c 0", "ulimit -c unlimited", "core files"),
        ("Encrypted: true", "Encrypted: false", "not encrypted"),
        ("cache_stopped_nodes", "cache_stoped_nodes", "provider key"),
        ("keepalive_time_ms=10000", "keepalive_time_ms=300000", "keepalive_time_ms not set"),
    ],
)
def test_each_mistake_is_found(old: str, new: str, problem: str) -> None:
    assert any(problem in one for one in problems(yaml.safe_load(FILE.read_text().replace(old, new))))


def test_commands_are_shell(page: dict[str, Any]) -> None:
    for command in commands(page):
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.ray
def test_start_flags_are_known_to_ray(page: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts + parameter.secondary_opts}
    for command in starts(page):
        words = shlex.split(command)
        flags = {word.split("=")[0] for word in words[words.index("start") :] if word.startswith("--")}
        assert flags and flags <= known


def test_the_head_does_no_work_and_the_token_is_private(page: dict[str, Any]) -> None:
    assert page["available_node_types"][page["head_node_type"]]["resources"]["CPU"] == 0
    assert any(re.search(r"chmod 600 .*ray_token", command) for command in page["setup_commands"])
    assert any("0700" in command and "/var/meddx" in command for command in page["setup_commands"])
    assert all("--temp-dir=/var/meddx" in command for command in starts(page))
