package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file resolves flags from a YAML file: one mapping, from names of flags to
// values. Values are handed on as they were written, so a flag is parsed in one
// way wherever it comes from.
type file map[string]yaml.Node

// yamlResolver reads the file of --config.
func yamlResolver(r io.Reader) (kong.Resolver, error) {
	decoder := yaml.NewDecoder(r)
	values := file{}
	// An empty file sets nothing.
	if err := decoder.Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not a mapping of settings in YAML: %w", err)
	}
	return values, nil
}

// Validate refuses keys that are no flags: a misspelt setting must not be lost
// in silence.
func (f file) Validate(app *kong.Application) error {
	names := map[string]bool{}
	for _, flag := range app.Flags {
		names[flag.Name] = true
	}
	var unknown []string
	for key := range f {
		switch {
		case key == "app-secret":
			return fmt.Errorf("app-secret does not belong into a settings file: give app-secret-file or %s", secretVariable)
		case onlyOnCommandLine(key) || !names[key]:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("the settings file holds unknown keys: %s", strings.Join(unknown, ", "))
}

// Resolve gives the value of one flag. The environment wins, which kong by
// itself does not grant.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	var unset any
	node, ok := f[flag.Name]
	if !ok || onlyOnCommandLine(flag.Name) {
		return unset, nil
	}
	for _, variable := range flag.Envs {
		if _, set := os.LookupEnv(variable); set {
			return unset, nil
		}
	}
	switch node.Kind {
	case yaml.ScalarNode:
		return scalar(&node)
	case yaml.SequenceNode:
		if !flag.IsSlice() {
			return nil, fmt.Errorf("line %d: takes one value, not a list", node.Line)
		}
		list := []any{}
		for _, item := range node.Content {
			value, err := scalar(item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.MappingNode:
		if !flag.IsMap() {
			return nil, fmt.Errorf("line %d: takes one value, not a mapping", node.Line)
		}
		return pairs(&node)
	default:
		return nil, fmt.Errorf("line %d: takes a plain value", node.Line)
	}
}

func scalar(node *yaml.Node) (any, error) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		return nil, fmt.Errorf("line %d: takes a plain value", node.Line)
	}
	return node.Value, nil
}

// pairs writes a mapping as a flag takes it.
func pairs(node *yaml.Node) (any, error) {
	var list []string
	for i := 0; i < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		for _, part := range []*yaml.Node{name, value} {
			if _, err := scalar(part); err != nil {
				return nil, err
			}
		}
		list = append(list, name.Value+"="+value.Value)
	}
	return strings.Join(list, ";"), nil
}

func onlyOnCommandLine(name string) bool {
	return name == "config" || name == "version" || name == "help"
}
