"""What calls cost: by the config before the table, unknown is not free, and the past can be priced later."""

import json

import pytest

from harness import binary, http1
from harness.admin import Admin, csv_rows, with_token
from harness.databases import Sqlite, assert_sums_agree
from harness.polling import until
from harness.upstream import CHAT, plain

MILLION = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}


def priced(serve, upstreams, prices, model, usage=None, channel=None):
    """The record of a call of this model that used this."""
    answer = {**CHAT, "model": model, "usage": usage or MILLION}
    system = {"prices": prices} if prices else {}
    gateway = serve(upstreams(plain(answer)).url, system=system)
    assert http1.chat(gateway, channel or "openai", model=model).status == 200
    return gateway.records.one()


def test_the_programs_own_table_needs_no_config(serve, upstreams):
    kept = priced(serve, upstreams, None, "gpt-4o-mini")
    table = json.loads((binary.REPOSITORY / "crates/llm/data/prices.json").read_text())
    (row,) = [row for row in table["prices"] if row["family"] == "openai" and "gpt-4o-mini" in row["models"]]
    assert kept["cost"] == round((row["input"] + row["output"]) * 1_000_000)
    assert kept["price_version"] == table["version"]


def test_the_config_goes_before_the_table_and_a_channel_before_all(serve, upstreams):
    everywhere, here = {"input": 1, "output": 1}, {"channel": "openai", "input": 3, "output": 4}
    assert priced(serve, upstreams, {"models": {"gpt-4o": everywhere}}, "gpt-4o")["cost"] == 2_000_000
    kept = priced(serve, upstreams, {"models": {"gpt-4o": [everywhere, here]}}, "gpt-4o")
    assert kept["cost"] == 7_000_000
    assert "+" in kept["price_version"], "the config's own prices have a name of their own"


def test_names_go_before_patterns_and_long_patterns_before_short(serve, upstreams):
    inputs = {"m-*": 1, "m-long-*": 2, "m-long-x": 3}
    models = {name: {"input": price, "output": 0} for name, price in inputs.items()}
    found = [priced(serve, upstreams, {"models": models}, name)["cost"] for name in ("m-1", "m-long-1", "m-long-x")]
    assert found == [1_000_000, 2_000_000, 3_000_000]


def test_other_currencies_are_converted(serve, upstreams):
    prices = {"currency": "CNY", "rates": {"USD": 7.1}, "models": {"m": {"currency": "USD", "input": 2, "output": 8}}}
    assert priced(serve, upstreams, prices, "m")["cost"] == 71_000_000


@pytest.mark.parametrize("tokens,cost", [(1_000, 1_000), (1_001, 2_002)])
def test_a_long_input_has_its_own_tier(serve, upstreams, tokens, cost):
    tier = {"from_input_tokens": 1_001, "input": 2, "output": 0}
    prices = {"models": {"m": {"input": 1, "output": 0, "tiers": [tier]}}}
    assert priced(serve, upstreams, prices, "m", {"prompt_tokens": tokens, "completion_tokens": 5})["cost"] == cost


def test_free_is_not_unknown(serve, upstreams):
    kept = priced(serve, upstreams, {"models": {"llama-*": {"input": 0, "output": 0}}}, "llama-9")
    assert kept["cost"] == 0 and kept["price_version"] != "unpriced"


def test_an_alias_costs_what_serves_it(serve, upstreams):
    upstream = upstreams(plain({**CHAT, "model": "real", "usage": MILLION}))
    channels = {"openai": {"models": [{"fast": "real"}]}}
    models = {"fast": {"input": 100, "output": 100}, "real": {"input": 1, "output": 2}}
    gateway = serve(upstream.url, channels=channels, system={"prices": {"models": models}})
    assert http1.chat(gateway, model="fast").json()["model"] == "fast"
    kept = gateway.records.one()
    assert (kept["model_asked"], kept["model_served"], kept["cost"]) == ("fast", "real", 3_000_000)


def reprice(gateway, *options):
    """What `aiproxy reprice` says, once it is done."""
    finished = binary.run("reprice", "-c", gateway.config_path, "--output", "json", *options, cwd=gateway.directory)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def warnings(gateway, model):
    """What the log warns of about this model."""
    lines = map(json.loads, gateway.process.log().splitlines())
    return [line for line in lines if line["level"] == "WARN" and line.get("model") == model]


def test_an_unknown_price_is_said_once_and_given_later(serve, upstreams):
    """Given calls without a price, when it is added and the past is priced, then records and all sums agree."""
    upstream = upstreams(lambda request, connection: plain({**CHAT, "model": json.loads(request.body)["model"]})(
        request, connection
    ))
    token, system = with_token(prices={"models": {"known": {"input": 1, "output": 1}}})
    gateway = serve(upstream.url, system=system)
    admin = Admin(gateway, token)
    for model in ["brand-new"] * 20 + ["known"] * 3 + ["also-new"] * 2:
        assert http1.chat(gateway, model=model).status == 200
    before = gateway.records.wait_for(25)
    unpriced = [kept for kept in before if kept["model_asked"] != "known"]
    assert {(kept["cost"], kept["price_version"]) for kept in unpriced} == {(None, "unpriced")}
    until(lambda: warnings(gateway, "also-new"), 5, "a warning in the log")
    assert len(warnings(gateway, "brand-new")) == len(warnings(gateway, "also-new")) == 1, "one for many calls"
    assert warnings(gateway, "known") == []
    sums = admin.settled(25)
    assert (sums["unpriced"], sums["cost"]) == (22, 3 * 29)

    assert reprice(gateway)["changed"] == 0, "nothing is known yet"
    gateway.config["system"]["prices"]["models"]["brand-new"] = {"input": 1, "output": 2}
    gateway.write_config()
    told = reprice(gateway)
    assert (told["seen"], told["changed"], told["unpriced"]) == (22, 20, 2)
    assert reprice(gateway)["changed"] == 0, "the second time there is nothing to do"

    sums = admin.statistics("summary")["totals"]
    assert (sums["calls"], sums["unpriced"], sums["cost"]) == (25, 2, 3 * 29 + 20 * 39)
    models = {group["model"]: (group["cost"], group["unpriced"]) for group in admin.statistics("models")["groups"]}
    assert models == {"brand-new": (20 * 39, 0), "known": (3 * 29, 0), "also-new": (0, 2)}
    records = {kept["id"]: kept for kept in admin.records()}
    for kept in before:
        now = records[kept["id"]]
        if kept["model_asked"] == "brand-new":
            assert (now["cost"], now["price_version"]) == (39, told["price_version"])
            now = {**now, "cost": None, "price_version": "unpriced"}
        assert now == kept, "nothing else has changed"
    exported = csv_rows(admin.get("/admin/api/v1/records/export"))
    assert sum(int(row["cost"] or 0) for row in exported) == sums["cost"]
    database = Sqlite(gateway.directory / "data/aiproxy.db")
    assert_sums_agree(database)
    [(in_rows,)] = database.query("SELECT SUM(cost) FROM records")
    in_rollups = database.query("SELECT SUM(cost), SUM(unpriced) FROM rollups GROUP BY granularity")
    assert in_rows == sums["cost"] and in_rollups == [(sums["cost"], 2)] * 3
    until(lambda: cost_of_one(gateway, "brand-new") == 39, 5, "new calls are priced by the config that was written")


def cost_of_one(gateway, model):
    return gateway.records.of(http1.chat(gateway, model=model).request_id)["cost"]


def test_a_wrong_price_is_corrected_by_all(serve, upstreams):
    token, system = with_token(prices={"models": {"demo": {"input": 1, "output": 1}}})
    gateway = serve(upstreams(plain(CHAT)).url, system=system)
    for _ in range(5):
        http1.chat(gateway)
    admin = Admin(gateway, token)
    assert admin.settled(5)["cost"] == 5 * 29
    gateway.config["system"]["prices"]["models"]["demo"] = {"input": 2, "output": 3}
    gateway.write_config()
    assert reprice(gateway)["changed"] == 0, "they have a price"
    assert reprice(gateway, "--all", "--to", "2020-01-01")["seen"] == 0
    assert reprice(gateway, "--all")["changed"] == 5
    assert admin.statistics("summary")["totals"]["cost"] == 5 * (2 * 19 + 3 * 10)


def test_reprice_says_what_is_wrong(tmp_path):
    (tmp_path / "aiproxy.yaml").write_text("users: 7\n")
    finished = binary.run("reprice", "-c", "aiproxy.yaml", cwd=tmp_path)
    assert finished.returncode == 1 and "aiproxy.yaml:1" in finished.stderr and finished.stdout == ""
