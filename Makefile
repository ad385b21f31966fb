# The front door. Everything a target needs is installed by the target.

CARGO ?= cargo
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## the kiln binary and its executor, for development
	$(CARGO) build -p kiln -p kiln-executor

.PHONY: release
release: ## the kiln binary with a static executor beside it
	scripts/musl
	$(CARGO) build --release -p kiln
	$(CARGO) build --profile executor -p kiln-executor --target x86_64-unknown-linux-musl

.PHONY: demo
demo: ## `kiln dev` on the quickstart, on this machine: no cluster, no Docker
	$(CARGO) build -p kiln
	cd examples/quickstart && ../../target/debug/kiln dev --local

.PHONY: demo-cluster
demo-cluster: build ## start the test cluster and `kiln dev` on an example in it
	scripts/demo

.PHONY: cluster
cluster: ## start the test cluster and print its environment (KUBECONFIG and more)
	@$(CARGO) run -q -p kiln-test-cluster -- up

.PHONY: cluster-down
cluster-down: ## stop the test cluster; nothing of it stays
	@$(CARGO) run -q -p kiln-test-cluster -- down

.PHONY: images
images: ## executor, debug, slim and warmer as OCI layouts; REGISTRY=host/path pushes them
	scripts/images $(REGISTRY) $(FLAGS)

.PHONY: test
test: ## every test, the cluster included; what cannot run is reported as skipped
	scripts/test

.PHONY: lint
lint: ## formatting, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

.PHONY: bench
bench: release ## the loop's times, the renderer's and the builder's, against the raw limit and peers
	scripts/bench
	scripts/bench-builder target/$(shell uname -m)-unknown-linux-musl/executor/executor

.PHONY: bench-builder
bench-builder: release ## the builder's times alone, without a cluster
	scripts/bench-builder target/$(shell uname -m)-unknown-linux-musl/executor/executor
