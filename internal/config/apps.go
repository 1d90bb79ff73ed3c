package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/yunxin-facade/yunxin-facade/internal/files"
	"github.com/yunxin-facade/yunxin-facade/upstream/failover"
)

// DefaultApp is the name of the app that the flags describe.
const DefaultApp = "default"

const (
	mostApps      = 64 // each has connections, quotas and metrics of its own
	mostAppsBytes = 1 << 20
)

// App is a Yunxin app that is served.
type App struct {
	// Name is what callers and metrics call the app.
	Name   string
	AppKey string
	// SecretFile holds the AppSecret, for ReadSecret; "" if it came from the
	// environment, or in the sandbox.
	SecretFile string
	Secret     Secret
	// Endpoints and LBS are as the flags say.
	Endpoints []string
	LBS       []string
	Plan      string // "" unless set
	Quotas    Quotas
}

// readApps makes the apps, of the flags or of the file.
func (c *Config) readApps() (err error) {
	if c.AppsFile == "" {
		c.Apps = []App{{
			Name: DefaultApp, AppKey: c.AppKey, SecretFile: c.AppSecretFile, Secret: c.AppSecret,
			Endpoints: c.Endpoints, LBS: c.LBS, Plan: c.Plan, Quotas: c.Quotas,
		}}
		if !c.Sandbox && len(c.Endpoints) == 0 {
			c.Apps[0].Endpoints = []string{DefaultEndpoint}
		}
		return nil
	}
	if c.AppKey != "" || c.AppSecret != "" || c.Sandbox || c.Plan != "" || len(c.Endpoints)+len(c.LBS)+len(c.Quotas) > 0 {
		return errors.New("--apps-file takes the place of --sandbox, --app-key, AppSecret, --endpoint, --lbs, --plan and --quota " +
			"(check the YUNXIN_ environment variables too): say of each app in the file what these say of one, or remove --apps-file")
	}
	data, err := files.Read(c.AppsFile, mostAppsBytes)
	if err != nil {
		return fmt.Errorf("--apps-file: %w", err)
	}
	if c.Apps, err = parseApps(data); err != nil {
		return fmt.Errorf("--apps-file %s: %w", c.AppsFile, err)
	}
	return nil
}

// parseApps reads the file of --apps-file: a list of apps, of which the first is
// the default one.
func parseApps(data []byte) ([]App, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var file struct {
		Apps []yaml.Node `yaml:"apps"`
	}
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("it must hold one key, apps, with a list of apps in YAML")
	}
	if decoder.Decode(new(yaml.Node)) == nil {
		return nil, errors.New("it must hold one document")
	}
	if len(file.Apps) == 0 || len(file.Apps) > mostApps {
		return nil, fmt.Errorf("it lists %d apps, and must list 1 to %d under the key apps", len(file.Apps), mostApps)
	}
	var apps []App
	var errs []error
	keys := map[string]string{} // who has an AppKey
	for i := range file.Apps {
		app, err := parseApp(&file.Apps[i])
		label := "app " + app.Name
		if !appName.MatchString(app.Name) {
			label = fmt.Sprintf("app no. %d", i+1)
		}
		if other, ok := keys[app.AppKey]; ok && app.AppKey != "" {
			err = errors.Join(err, fmt.Errorf("has the app_key of %s, with which it would share its quotas", other))
		}
		if slices.ContainsFunc(apps, func(a App) bool { return a.Name == app.Name && a.Name != "" }) {
			err = errors.Join(err, errors.New("there is another app of this name"))
		}
		if err == nil {
			err = app.complete()
		}
		if err != nil {
			problems := strings.ReplaceAll(err.Error(), "\n", "; ") // all of this app
			errs = append(errs, fmt.Errorf("%s (line %d): %s", label, file.Apps[i].Line, problems))
		}
		keys[app.AppKey] = label
		apps = append(apps, app)
	}
	return apps, errors.Join(errs...)
}

// parseApp reads one app. What it returns with an error has its name, if there
// is one.
func parseApp(node *yaml.Node) (App, error) {
	var a App
	if node.Kind != yaml.MappingNode {
		return a, errors.New("it must be a mapping")
	}
	var errs []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i].Value, node.Content[i+1]
		var err error
		switch {
		case seen[key]:
			err = errors.New("is given twice")
		case key == "quotas":
			err = a.Quotas.unmarshalNode(value)
		case key == "endpoints":
			a.Endpoints, err = texts(value)
		case key == "lbs":
			a.LBS, err = texts(value)
		case key == "app_secret":
			err = errors.New("does not belong into a file like this: give app_secret_file")
		default:
			into, ok := map[string]*string{"name": &a.Name, "app_key": &a.AppKey, "app_secret_file": &a.SecretFile, "plan": &a.Plan}[key]
			if !ok {
				err = errors.New("is no key of an app: there are name, app_key, app_secret_file, endpoints, lbs, plan and quotas")
				break
			}
			*into, err = text(value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		seen[key] = true
	}
	return a, errors.Join(errs...)
}

func (q *Quotas) unmarshalNode(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: takes a mapping", node.Line)
	}
	joined, err := pairs(node)
	if err != nil || len(node.Content) == 0 {
		return err
	}
	return q.UnmarshalText([]byte(fmt.Sprint(joined)))
}

func text(node *yaml.Node) (string, error) {
	if _, err := scalar(node); err != nil {
		return "", err
	}
	return node.Value, nil
}

func texts(node *yaml.Node) ([]string, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: takes a list", node.Line)
	}
	var list []string
	for _, item := range node.Content {
		value, err := text(item)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}

var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// complete checks what the file says of an app, and reads its secret.
func (a *App) complete() (err error) {
	var missing []string
	for _, key := range []struct{ name, value string }{
		{"name", a.Name}, {"app_key", a.AppKey}, {"app_secret_file", a.SecretFile},
	} {
		if key.value == "" {
			missing = append(missing, key.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s must be given", strings.Join(missing, ", "))
	}
	if !appName.MatchString(a.Name) {
		return fmt.Errorf("the name %q must have up to 64 of a-z, 0-9 and ._- and begin with a letter or digit", a.Name)
	}
	if a.Secret, err = ReadSecret(a.SecretFile); err != nil {
		return fmt.Errorf("app_secret_file: %w", err)
	}
	if len(a.Endpoints) == 0 {
		a.Endpoints = []string{DefaultEndpoint}
	}
	return a.check("endpoints", "lbs", "plan", "quotas")
}

// check checks what the flags of an app say, under their names.
func (a *App) check(endpoint, lbs, plan, quota string) error {
	return errors.Join(
		checkAddresses(endpoint, a.Endpoints, failover.Regions()),
		checkAddresses(lbs, a.LBS, failover.DiscoveryServices()),
		checkPlan(plan, a.Plan),
		checkQuotas(quota, a.Quotas))
}
