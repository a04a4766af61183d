"""Every documented error of a vendor has a reason, one sentence, and a decision to try again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import exceptions as vendor

from rootbound_lda.agent.faults import AgentStopped, understand
from rootbound_lda.agent.limits import Warnings, check
from rootbound_lda.agent.models import open_model
from rootbound_lda.agent.prices import UNKNOWN, FlatPrice, Meter, price_of
from rootbound_lda.keys import KeyMissing, Keys
from rootbound_lda.wire import AgentConfig, Limits

GLM = AgentConfig(provider="GLM", model="glm-7")
GEMINI = AgentConfig(provider="GEMINI", model="gemini-2.5-flash", key_name="TEAM_API_KEY")


def rate(text: str = "slow down", **more: Any) -> Exception:
    return vendor.ModelRateLimitError("m", text, **more)


def rejected(text: str = "no", **more: Any) -> Exception:
    return vendor.ModelRequestRejectedError("m", text, **more)


@pytest.mark.parametrize(
    ("error", "config", "failure", "retry", "says"),
    [
        (vendor.ModelAuthenticationError("m", "x"), GLM, "PROVIDER_AUTH", False, "GLM_API_KEY"),
        (rejected(provider_error_code="1002"), GLM, "PROVIDER_AUTH", False, "did not accept"),
        (rejected("API key not valid."), GEMINI, "PROVIDER_AUTH", False, "TEAM_API_KEY"),
        (vendor.ModelQuotaExceededError("m", "x"), GLM, "PROVIDER_QUOTA", False, "balance"),
        (rate(provider_error_code="1113"), GLM, "PROVIDER_QUOTA", False, "balance"),
        (rate(provider_error_code="1308"), GLM, "PROVIDER_QUOTA", False, "used up"),
        (rate("GenerateRequestsPerDay"), GEMINI, "PROVIDER_QUOTA", False, "daily quota"),
        (rate(provider_error_code="1302", retry_after=3), GLM, "PROVIDER_QUOTA", True, "rate"),
        (rejected(provider_error_code="1301"), GLM, "PROVIDER_REFUSED", False, "content rules"),
        (vendor.ContentFilterError("SAFETY"), GEMINI, "PROVIDER_REFUSED", False, "reword"),
        (rejected(provider_error_code="1261"), GLM, "PROVIDER_REFUSED", False, "no longer fits"),
        (rejected(provider_error_code="1211"), GLM, "PROVIDER_REFUSED", False, "no such model"),
        (vendor.ModelNotFoundError("m", "x"), GEMINI, "PROVIDER_REFUSED", False, "no such model"),
        (rejected("bad schema"), GEMINI, "PROVIDER_REFUSED", False, "bad schema"),
        (vendor.ModelServerError("m", "overloaded"), GEMINI, "PROVIDER_UNAVAILABLE", True, "later"),
        (vendor.UnexpectedModelBehavior("cut"), GLM, "PROVIDER_UNAVAILABLE", True, "cut"),
        (TypeError("int + str"), GEMINI, "PROVIDER_UNAVAILABLE", True, "int + str"),
    ],
)
def test_every_fault_is_understood(
    error: Exception, config: AgentConfig, failure: str, retry: bool, says: str
) -> None:
    fault = understand(error, config)
    assert (fault.failure, fault.retry) == (failure, retry)
    assert says in fault.sentence
    assert "\n" not in fault.sentence
    assert (fault.delay(1) is not None) is retry
    assert fault.delay(4) is None, "there is an end to trying again"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("own", "environment", "used"),
    [
        (None, {}, "https://api.z.ai/api/paas/v4"),
        (None, {"GLM": "https://open.bigmodel.cn/api/paas/v4"}, "https://open.bigmodel.cn"),
        (
            "https://api.z.ai/api/coding/paas/v4/",
            {"GLM": "https://x.invalid"},
            "https://api.z.ai/api/c",
        ),
    ],
)
async def test_the_profiles_address_comes_before_the_machines_and_the_vendors(
    own: str | None, environment: dict[str, str], used: str
) -> None:
    config = AgentConfig(provider="GLM", model="glm-7", base_url=own)
    async with open_model(config, "key", environment) as codec:
        assert str(codec.model.base_url).startswith(used)


def test_a_vendors_wait_is_kept_unless_it_is_too_long() -> None:
    assert (understand(rate(retry_after=7), GLM).delay(1) or 0) >= 7
    assert understand(rate(retry_after=3600), GLM).delay(1) is None


def test_limits_are_announced_once_each() -> None:
    meter, warnings = Meter(FlatPrice(1.0, 1.0, 1.0)), Warnings()
    limits = Limits(max_steps=10, max_tokens=100, max_cost_usd=0.5, max_seconds=100)
    assert warnings.due(limits, meter, 1) == ""
    meter.steps, meter.input_tokens = 8, 85
    assert warnings.due(limits, meter, 1) == "8 of 10 steps and 85 of 100 tokens"
    meter.cost = 0.45
    assert warnings.due(limits, meter, 90) == "0.4500 of 0.5000 US dollars and 90 of 100 seconds"
    assert warnings.due(limits, meter, 95) == ""


def test_an_unknown_model_counts_against_a_limit_but_shows_no_price() -> None:
    assert price_of("GLM", "glm-nobody-knows", {}) is UNKNOWN
    meter = Meter(UNKNOWN)
    meter.add(1_000_000, 0, 0)
    assert meter.cost == 5.0
    assert meter.cost_usd is None


@pytest.mark.parametrize(
    ("price", "says"),
    [(FlatPrice(1.0, 1.0, 1.0), "$0.6000, over"), (UNKNOWN, "by a cautious guess")],
)
def test_money_ends_a_run(price: Any, says: str) -> None:
    meter = Meter(price)
    meter.add(600_000, 0, 0)
    check(Limits(max_cost_usd=100.0), meter)
    with pytest.raises(AgentStopped, match="its branch is kept") as stopped:
        check(Limits(max_cost_usd=0.5), meter)
    assert stopped.value.failure == "AGENT_LIMIT_COST"
    assert says in str(stopped.value)


def test_no_sentence_holds_a_key_that_a_vendor_or_a_library_quotes() -> None:
    keys = Keys({"GLM_API_KEY": "sk-of-the-user", "BROKEN_API_KEY": "sk-of-the\nuser"})
    key = keys.resolve("GLM", None)
    quotes = [f"no header Authorization: Bearer {key}", f"{'x' * 290} {key}"]
    for text in quotes:
        for error in (rejected(text), vendor.ModelServerError("m", text), ValueError(text)):
            assert "sk-of" not in understand(error, GLM).sentence
    # What cannot be sent as a header is quoted by the library that should, in its own way.
    with pytest.raises(KeyMissing, match="line break") as refused:
        keys.resolve("GLM", "BROKEN_API_KEY")
    assert "sk-of" not in str(refused.value)
