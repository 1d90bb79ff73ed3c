package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/yunxin-facade/yunxin-facade/internal/files"
)

// secretVariable may hold the AppSecret itself.
const secretVariable = "YUNXIN_APP_SECRET" //nolint:gosec // a name, not a secret

// ErrDone reports that the command line asked for text only (--help, --version,
// keys new), which has been written.
var ErrDone = errors.New("nothing left to do")

// commandLine is what the command line takes: the settings, and flags that make
// sense only there.
type commandLine struct {
	Settings Config           `embed:""`
	File     kong.ConfigFlag  `name:"config" placeholder:"FILE" help:"YAML file with settings; its keys are the names of the flags. Flags and environment variables win over it."`
	Version  kong.VersionFlag `env:"-" help:"Print the version and exit."`

	Serve struct{} `cmd:"" default:"1" help:"Serve until the process is told to stop; what happens without a command."`
	Keys  struct {
		New newKey `cmd:"" help:"Make an API key and print it, once, with what the callers file should hold of it."`
	} `cmd:"" help:"API keys of callers."`
}

// Parse reads and checks the settings. Its errors are texts for the person who
// starts the server.
func Parse(args []string, stdout io.Writer) (*Config, error) {
	var line commandLine
	done := false
	parser, err := newParser(&line, kong.Writers(stdout, stdout), kong.Exit(func(int) { done = true }))
	if err != nil {
		return nil, err
	}
	command, err := parser.Parse(args)
	if done {
		return nil, ErrDone
	}
	if err != nil {
		return nil, fmt.Errorf("%w (--help lists all settings)", err)
	}
	if command.Command() == "keys new" {
		if err := line.Keys.New.write(stdout); err != nil {
			return nil, err
		}
		return nil, ErrDone
	}
	cfg := &line.Settings
	if err := cfg.readSecret(); err != nil {
		return nil, err
	}
	if err := cfg.readApps(); err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Model describes the command line, for the generator of its documentation.
func Model() (*kong.Application, error) {
	parser, err := newParser(new(commandLine))
	if err != nil {
		return nil, err
	}
	return parser.Model, nil
}

func newParser(line *commandLine, options ...kong.Option) (*kong.Kong, error) {
	options = append(options,
		kong.Name("server"),
		kong.Description("A gRPC and REST service in front of the NetEase Yunxin IM server API."),
		kong.DefaultEnvars("YUNXIN"),
		kong.Configuration(yamlResolver),
		kong.Vars{"default_endpoint": DefaultEndpoint, "default_lbs": DefaultLBS, "version": Version()},
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "yunxin", Title: "Yunxin:"},
			{Key: "quotas", Title: "Quotas:"},
			{Key: "sandbox", Title: "Sandbox:"},
			{Key: "listen", Title: "Listeners:"},
			{Key: "security", Title: "Security:"},
			{Key: "limits", Title: "Limits:"},
			{Key: "logs", Title: "Logs:"},
		}))
	return kong.New(line, options...)
}

// readSecret takes the AppSecret from its file or the environment. Two sources
// at once are an error: nobody could tell which one is stale.
func (c *Config) readSecret() error {
	c.AppSecret = Secret(os.Getenv(secretVariable))
	if c.AppSecretFile == "" {
		return nil
	}
	if c.AppSecret != "" {
		return fmt.Errorf("both --app-secret-file and %s are set: keep one", secretVariable)
	}
	secret, err := ReadSecret(c.AppSecretFile)
	if err != nil {
		return fmt.Errorf("--app-secret-file: %w", err)
	}
	c.AppSecret = secret
	return nil
}

// ReadSecret reads a file that holds a secret and nothing else.
func ReadSecret(path string) (Secret, error) {
	data, err := files.Read(path, 4<<10)
	if err != nil {
		return "", err
	}
	// Editors and echo end a file with a newline, which is not part of it.
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", path)
	}
	return Secret(data), nil
}
