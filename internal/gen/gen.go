// Package gen holds the programs behind what is generated in this repository,
// and the order in which they run: `go generate ./internal/gen`.
package gen

//go:generate go -C ../.. run ./internal/gen/thirdparty third_party/proto
//go:generate go -C ../.. tool -modfile=tools/go.mod buf format -w third_party/proto
//go:generate go -C ../.. tool -modfile=tools/go.mod buf generate
//go:generate go -C ../.. run ./internal/gen/docs
