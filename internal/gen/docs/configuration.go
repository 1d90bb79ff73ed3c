package main

import (
	"strings"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/yunxin-facade/yunxin-facade/internal/config"
)

const configurationIntro = `# Configuration

Every setting is a flag, an environment variable and a key of the YAML file that
` + "`--config`" + ` names; the key is the flag's name without dashes in front. A flag wins
over the environment, the environment over the file, the file over the default.
Unknown flags and keys are errors, and so is every value that cannot be right: the
server then says what to change and does not start.

` + "```yaml" + `
# server --config settings.yaml
app-key: 0123456789abcdef
app-secret-file: /run/secrets/yunxin
max-timeout: 30s
` + "```" + `
`

func configurationPage(*protoregistry.Files) (string, error) {
	model, err := config.Model()
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString(configurationIntro)
	var order []string
	groups := map[string]*table{}
	for _, flag := range model.Flags {
		title := "Command line"
		if flag.Group != nil {
			title = strings.TrimSuffix(flag.Group.Title, ":")
		}
		if groups[title] == nil {
			groups[title] = newTable("Flag", "Environment", "Default", "Meaning")
			order = append(order, title)
		}
		groups[title].row(flagCell(flag), code(strings.Join(flag.Envs, ", ")), code(flag.Default), flag.Help)
	}
	for _, title := range order {
		page.WriteString("\n## " + title + "\n\n" + groups[title].String())
	}
	return page.String(), nil
}

func flagCell(flag *kong.Flag) string {
	switch {
	case flag.Tag.Negatable != "":
		return code("--[no-]" + flag.Name)
	case flag.IsBool():
		return code("--" + flag.Name)
	case flag.PlaceHolder != "":
		return code("--" + flag.Name + " " + flag.PlaceHolder)
	default:
		return code("--" + flag.Name)
	}
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
