"""What the pages of docs/ say is so: their commands print it, their links lead somewhere, their functions are there."""

from __future__ import annotations

import base64
import os
import re
import tomllib
from pathlib import Path

import pytest

from doc_pages import KUBECTL, ROOT, block, examples, folded, page, walk

wants_kubectl = pytest.mark.skipif(not KUBECTL.exists(), reason="wants .tools/kubectl-1.36")


def numbers_folded(text: str) -> str:
    return re.sub(r"\d[\d,]*", "N", folded(text))


def steps_folded(text: str) -> str:
    """Without times, and the part of a generated name."""
    text = re.sub(r"^\d\d:\d\d:\d\d\.\d{3}", "TIME", text, flags=re.M)
    text = re.sub(r"\d+\.\d\d m?s\b", "DURATION", text)
    return folded(re.sub(r"kube-api-access-\w{5}", "kube-api-access-NAME", text))


@wants_kubectl
def test_the_webhook_labels_the_pod(tmp_path: Path) -> None:
    with walk(tmp_path, ports=("8443",)) as walking:
        for example in examples(page("admission-webhooks")):
            walking.check(example)


@wants_kubectl
def test_the_policy_refuses_what_the_page_says(tmp_path: Path) -> None:
    with walk(tmp_path) as walking:
        for example in examples(page("admission-policies")):
            walking.check(example)


@wants_kubectl
def test_credentials_are_taken_as_the_page_says(tmp_path: Path) -> None:
    with walk(tmp_path) as walking:
        for example in examples(page("authentication")):
            walking.check(example)


@wants_kubectl
def test_the_store_is_looked_after_as_the_page_says(tmp_path: Path) -> None:
    text = page("storage")
    with walk(tmp_path) as walking:
        key = base64.b64encode(os.urandom(32)).decode()
        configuration = block(text, "yaml", "kind: EncryptionConfiguration").replace("(32 random bytes in base64)", key)
        (walking.work / "encryption.yaml").write_text(configuration)
        for example in examples(text):
            walking.check(example, numbers_folded)
            if example.command == "kubegate up &":  # the secret of which the page speaks
                walking.run(
                    "kubectl --kubeconfig .kubegate/admin.kubeconfig create secret generic db --from-literal=a=b"
                )


@wants_kubectl
def test_pods_run_on_simulated_nodes(tmp_path: Path) -> None:
    with walk(tmp_path) as walking:
        for example in examples(page("simulated-nodes").partition("## Commands in pods")[0]):
            walking.check(example, patience=20 if re.match("kubectl (get|rollout)", example.command) else 0)


@wants_kubectl
def test_requests_are_shown_step_by_step(tmp_path: Path) -> None:
    with walk(tmp_path) as walking:
        for example in examples(page("traces")):
            walking.check(example, steps_folded, patience=10)  # it is written after the answer is sent


def test_the_webhook_server_answers_as_the_page_says(tmp_path: Path) -> None:
    with walk(tmp_path, ports=("8443",)) as walking:
        for example in examples(page("webhook-server")):
            walking.check(example)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_to_files(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_functions_of_the_two_requests_are_there() -> None:
    source = ROOT / "src" / "kubegate"
    modules = {path.stem for path in source.rglob("*.py")}
    rules = (source / "registry" / "__init__.py").read_text()
    defined = set(
        re.findall(r"^ *(?:async )?(?:def|class) (\w+)", "\n".join(p.read_text() for p in source.rglob("*.py")), re.M)
    )
    rows = [row.split("|")[2] for row in page("request").splitlines() if row.startswith("| ")]
    names = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert len(names) > 30
    for name in names:
        last = name.split(".")[-1]
        known = last in defined or last in modules or (name.startswith("rules.") and f"    {last}: " in rules)
        assert known, f"docs/request.md speaks of {name}"


@pytest.mark.parametrize("text", [page("design"), (ROOT / "README.md").read_text()], ids=["design.md", "README.md"])
def test_the_rooms_are_told_in_the_order_that_the_linter_holds(text: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    rooms = [layer.removeprefix("kubegate.") for layer in contract["layers"]]
    assert [name for name in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) if name in rooms] == rooms
    packages = {path.parent.name for path in (ROOT / "src" / "kubegate").glob("*/__init__.py")}
    assert packages == set(rooms)


def test_comments_name_laws_that_there_are() -> None:
    laws = set(re.findall(r"^(\d)\. \*\*", page("design"), re.MULTILINE))
    named = {n for path in (ROOT / "src").rglob("*.py") for n in re.findall(r"\b[Ll]aw (\d)", path.read_text())}
    assert named and named <= laws


def test_each_cve_of_the_page_is_named_by_the_tests_that_it_names() -> None:
    applying = page("security").partition("## Published CVEs")[2].partition("## Those that do not apply")[0]
    rows = [row.strip("| ").split(" | ") for row in applying.splitlines() if row.startswith("| 2")]
    assert len(rows) > 30
    tests = ROOT / "tests"
    for numbers, *_, named in rows:
        folder, text = "", ""
        for name in re.findall(r"`([\w/.]+\.py)`", named):  # the second of a row may be beside the first
            folder = str(Path(name).parent) if "/" in name else folder
            text += (tests / folder / Path(name).name).read_text()
        for number in re.findall(r"\d{4}-\d+", numbers):
            assert number in text or number.replace("-", "_") in text, f"no test of {named} names CVE-{number}"


def test_each_cve_that_a_test_names_is_on_the_page() -> None:
    text = page("security")
    for path in (ROOT / "tests").rglob("*.py"):
        for number in re.findall(r"CVE-(\d{4}-\d{3,})", path.read_text()):
            assert number in text, f"{path.name} names CVE-{number}"
