"""compose.yaml: the files that its commands name are mounted, and its containers may do little."""

from __future__ import annotations

from pathlib import Path

from deploy.files import COMPOSE, DEFAULTS, DEPLOY, DOCKERFILES, README, ROOT, parsed

SERVICES = COMPOSE["services"]


def test_the_files_of_the_commands_are_mounted() -> None:
    for service in SERVICES.values():
        chosen = parsed(["serve", *service["command"]])
        (model,) = service["volumes"]
        assert model["target"] == chosen.model.as_posix()
        assert {chosen.api_keys, chosen.admin_keys} == {Path("/run/secrets", name) for name in service["secrets"]}
        assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    for secret, source in COMPOSE["secrets"].items():
        assert source["file"] == f"${{LLMREC_KEYS:-./keys}}/{secret}"
        assert f">> deploy/keys/{secret}" in README


def test_a_container_may_do_little() -> None:
    for service in SERVICES.values():
        assert service["volumes"][0]["read_only"] is True
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["ports"] == [f"127.0.0.1:{DEFAULTS.port}:{DEFAULTS.port}"], "this machine only"


def test_tmp_is_writable_and_runs_code_where_vllm_compiles() -> None:
    for service in SERVICES.values():
        (mount,) = service["tmpfs"]
        target, _, options = mount.partition(":")
        assert target == "/tmp"
        assert ("exec" in options.split(",")) == (parsed(["serve", *service["command"]]).engine == "vllm")


def test_each_service_is_built_from_its_dockerfile() -> None:
    built = [service["build"]["dockerfile"] for service in SERVICES.values()]
    assert built == [f"deploy/{name}" for name in DOCKERFILES]
    assert {(DEPLOY / service["build"]["context"]).resolve() for service in SERVICES.values()} == {ROOT}


def test_there_is_time_to_finish_what_was_accepted_and_a_new_start_for_a_dead_engine() -> None:
    for service in SERVICES.values():
        grace = parsed(["serve", *service["command"]]).grace_s
        assert int(service["stop_grace_period"].removesuffix("s")) >= grace + 5
        assert service["restart"] == "unless-stopped"


def test_torch_uses_the_container_s_cores() -> None:
    service = SERVICES["llmrec"]
    assert service["environment"]["OMP_NUM_THREADS"] == str(service["cpus"])
