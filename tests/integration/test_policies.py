"""--policy: who gets a row changes when a token comes, never which."""
import subprocess

import pytest

from espalier_server import ESPALIER, Server


def answers(policy):
    server = Server("--policy", policy)
    answer = server.complete(prompt="A garden", n=5, max_tokens=24, temperature=1, seed=11, ignore_eos=True)
    deferred = server.metric("espalier_deferred_rows_total")
    server.stop()
    return [choice["text"] for choice in answer["choices"]], deferred


def test_answers_do_not_depend_on_the_policy():
    eager, none_deferred = answers("eager")
    assert none_deferred == 0 and len(set(eager)) == 5
    for policy in ("off", "cap:2"):
        texts, deferred = answers(policy)
        assert texts == eager and deferred > 0
    for policy in ("taper", "taper-paper"):
        assert answers(policy)[0] == eager


@pytest.mark.parametrize("policy", ["tapir", "cap:0", "cap:x", "cap", "", "Eager"])
def test_what_is_no_policy_is_said_before_anything_is_loaded(policy):
    done = subprocess.run([ESPALIER, "serve", "--model", "synthetic:tiny", "--policy", policy],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "eager (all), off (one), cap:N" in done.stderr
