# Targets with a "##" comment are listed by `make`.

FUZZTIME ?= 30s

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: generate
generate: ## write third_party, gen and the generated docs anew
	go generate ./internal/gen

.PHONY: format
format: ## format Go and protos, and mend what the linter can mend
	go tool -modfile=tools/go.mod buf format -w
	go tool -modfile=tools/lint/go.mod golangci-lint fmt
	go tool -modfile=tools/lint/go.mod golangci-lint run --fix

.PHONY: lint
lint: ## format, vet, linters, proto rules, breaking changes
	.ci/run format vet lint protos breaking

.PHONY: test
test: ## all tests
	go test ./...

.PHONY: race
race: ## all tests under the race detector
	go test -race ./...

.PHONY: e2e
e2e: ## the end-to-end tests alone, over gRPC and REST
	go test -count=1 ./e2e/...

.PHONY: faults
faults: ## the fault suite in full, which writes docs/reliability.md (15 minutes)
	YUNXIN_TESTS=full go test -count=1 -timeout 40m -v ./e2e/faults

.PHONY: attacks
attacks: ## the attack suite in full: more of everything, and how much slower honest calls get (30 minutes)
	YUNXIN_TESTS=full go test -count=1 -timeout 60m -v ./e2e/attacks

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME (30s)
	@go test -list '^Fuzz' ./... \
	| awk '/^Fuzz/ { name[++n] = $$1 } /^ok/ { for (i = 1; i <= n; i++) print $$2, name[i]; n = 0 }' \
	| while read -r package name; do \
		echo "$$package $$name"; \
		go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
	done

.PHONY: bench
bench: ## all benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: run
run: ## the server in front of its built-in sandbox
	go run ./cmd/server --sandbox

.PHONY: check
check: ## what CI runs
	.ci/run
