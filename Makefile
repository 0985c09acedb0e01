# Every target works in a fresh clone on a machine with Rust, Node.js with npm, Python 3 and apt.

.DEFAULT_GOAL := help
.PHONY: help run test test-faults test-tools check bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build AIProxy and start the demo: no config and no provider key needed
	cargo build --release --locked -p aiproxy
	target/release/aiproxy demo

test: ## Install what the tests need, run every test, print one summary
	scripts/test

test-faults: ## Kill the process 50 times, take databases, receivers and disk away, and count every call
	scripts/install-test-tools
	cargo build --release --locked -p aiproxy
	AIPROXY_FAULT_KILLS=50 tests/e2e/.venvs/.venv-pytest/bin/python -m pytest tests/e2e/test_faults.py \
	  -c tests/e2e/pytest.ini -n 0 -v

test-tools: ## Only install what the tests need
	scripts/install-test-tools

check: ## Format, lints, docs, licences, secrets, generated files
	scripts/check

bench: ## Measure AIProxy against nginx with Lua, in turns, on this machine
	bench/install.sh
	cargo build --release --locked -p aiproxy
	cargo run --release --locked -p aiproxy-bench --
