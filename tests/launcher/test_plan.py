"""From a target to a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omlx.integrations.spec import Integration, Model, Refusal, Surroundings, Target, Wiring
from omlx.launcher.errors import LauncherError, WindowTooSmall
from omlx.launcher.plan import child_environment, make_plan


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    return Wiring(("--at", target.url, *surroundings.arguments), {"AGENT_URL": target.url}, warnings=("careful",))


AGENT = Integration("agent", "The Agent", "agent", "brew install agent", 64_000, "env", wire, unset=("ELSEWHERE",))


def with_window(target: Target, window: int | None) -> Target:
    model = Model("m", window, 100)
    return replace(target, model=model, opus=model, sonnet=model, haiku=model, models=(model, Model("big", 200_000, 1)))


def test_the_plan_holds_the_whole_command_and_the_key_in_the_environment(target: Target, surroundings: Surroundings):
    plan = make_plan(AGENT, target, replace(surroundings, arguments=("-p", "hello")))
    assert (plan.executable, plan.arguments) == ("agent", ("--at", "http://127.0.0.1:8000", "-p", "hello"))
    assert plan.environment == {"AGENT_URL": "http://127.0.0.1:8000", "OMLX_API_KEY": "secret-key-of-this-launch"}
    assert plan.warnings == ("careful",)
    assert "secret" not in repr(plan)


def test_variables_that_lead_elsewhere_are_taken_from_the_child(target: Target, surroundings: Surroundings):
    environ = {"ELSEWHERE": "1", "OTHER": "2"}
    plan = make_plan(AGENT, target, replace(surroundings, environ=environ))
    assert plan.unset == ("ELSEWHERE",)
    assert child_environment(plan, environ) == {"OTHER": "2", **plan.environment}


@pytest.mark.parametrize("no_proxy", [{}, {"no_proxy": "internal"}])
def test_a_proxy_of_the_users_is_kept_from_the_way_to_the_server(
    target: Target, surroundings: Surroundings, no_proxy: dict[str, str]
):
    environ = {"https_proxy": "http://proxy:3128", **no_proxy}
    plan = make_plan(AGENT, target, replace(surroundings, environ=environ))
    assert plan.environment["NO_PROXY"] == ",".join([*no_proxy.values(), "127.0.0.1"])


def test_a_way_around_the_proxy_is_left_alone(target: Target, surroundings: Surroundings):
    environ = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost, 127.0.0.1"}
    assert "NO_PROXY" not in make_plan(AGENT, target, replace(surroundings, environ=environ)).environment


def test_a_window_the_agent_cannot_live_in_is_refused_with_the_line_that_mends_it(
    target: Target, surroundings: Surroundings
):
    with pytest.raises(WindowTooSmall, match="needs a window of 64,000 tokens; m has 8,192") as refusal:
        make_plan(AGENT, with_window(target, 8192), surroundings)
    assert "omlx launch agent --model big" in str(refusal.value)
    assert "--force" in str(refusal.value)


def test_where_no_served_model_would_do_the_refusal_says_how_to_get_one(target: Target, surroundings: Surroundings):
    only = Model("m", 8192, 100)
    with pytest.raises(WindowTooSmall, match=r"`omlx inspect MODEL`.*`omlx pull REPO`.*--force"):
        make_plan(AGENT, replace(with_window(target, 8192), models=(only,)), surroundings)


def test_one_small_tier_is_enough_for_a_refusal(target: Target, surroundings: Surroundings):
    with pytest.raises(WindowTooSmall, match="tiny has 4,096"):
        make_plan(AGENT, replace(target, haiku=Model("tiny", 4096, 1)), surroundings)


def test_force_turns_the_refusal_into_a_warning(target: Target, surroundings: Surroundings):
    plan = make_plan(AGENT, with_window(target, 8192), surroundings, force=True)
    assert plan.warnings[0].startswith("The Agent needs a window of 64,000 tokens")


def test_a_window_nobody_knows_is_a_warning(target: Target, surroundings: Surroundings):
    plan = make_plan(AGENT, with_window(target, None), surroundings)
    assert plan.context_window is None
    assert "does not say the window of m" in plan.warnings[0]


def test_an_agent_that_can_only_be_wired_for_good_is_not_launched_without_that(
    target: Target, surroundings: Surroundings
):
    app = replace(AGENT, wire=None, default_arguments=("app",))
    with pytest.raises(LauncherError, match="omlx launch agent --persist"):
        make_plan(app, target, surroundings)
    assert make_plan(app, target, surroundings, persist=True).arguments == ("app",)


def test_an_integrations_refusal_names_the_agent(target: Target, surroundings: Surroundings):
    def refuse(_target: Target, _surroundings: Surroundings) -> Wiring:
        raise Refusal("there is no file x")

    with pytest.raises(LauncherError, match="The Agent cannot be wired: there is no file x"):
        make_plan(replace(AGENT, wire=refuse), target, surroundings)
