// Package config reads the settings of the server: from the command line, the
// environment and a YAML file, in this order of precedence.
//
// A setting is declared once, as a field of Config: its flag, environment
// variable, default and help are in the field's tag, its check is in check.go,
// and docs/configuration.md is generated from both. The name of an environment
// variable is the flag's in upper case after YUNXIN_, the key in the file is
// the flag's name.
package config

import (
	"log/slog"
	"time"
)

// Names that stand for addresses of Yunxin, which the client of the upstream
// knows.
const (
	// DefaultEndpoint is the region that is called unless endpoints are set.
	DefaultEndpoint = "cn"
	// DefaultLBS stands for Yunxin's own discovery services.
	DefaultLBS = "yunxin"
)

// Config holds all settings. Parse returns it checked.
type Config struct {
	AppKey         string   `group:"yunxin" placeholder:"KEY" help:"AppKey of the Yunxin app."`
	AppSecretFile  string   `group:"yunxin" placeholder:"FILE" help:"File with the AppSecret. There is no flag for the secret itself, because command lines can be read by others; the environment variable YUNXIN_APP_SECRET may hold it instead of a file."`
	AppSecret      Secret   `kong:"-"`
	Endpoints      []string `group:"yunxin" name:"endpoint" placeholder:"URL" help:"Base URL of the Yunxin API, which may carry a path prefix, or a region, which stands for its main and its backup host: cn is mainland China, sg Singapore. ${default_endpoint} unless set. Of several, the first is preferred; the others take over when it fails. An app lives in one region and is unknown in the other."`
	LBS            []string `group:"yunxin" name:"lbs" placeholder:"URL" help:"URL of a scheduling service of Yunxin to ask for endpoints; ${default_lbs} stands for its own. Off unless set. The server starts without its answer, and calls --endpoint until there is one, and when those of the answer fail."`
	AppsFile       string   `group:"yunxin" placeholder:"FILE" help:"YAML file with several Yunxin apps, each with name, app_key, app_secret_file, endpoints, lbs, plan and quotas, in the place of the flags of one. Callers choose by the header x-yunxin-app; the first is the default."`
	Apps           []App    `kong:"-"`
	APIVersion     string   `group:"yunxin" default:"v2" enum:"v2,v2.1" help:"Version of the Yunxin API to call where both exist: v2 or v2.1."`
	Plan           string   `group:"quotas" placeholder:"PLAN" help:"The app's Yunxin plan, which decides its quotas: standard, advanced, flagship, dedicated, or unlimited to keep none. Unless set, standard for Yunxin and unlimited for the sandbox."`
	Quotas         Quotas   `group:"quotas" name:"quota" placeholder:"NAME=RATE" help:"Quota other than the plan's. NAME is a class of operations (single, batch-send, broadcast) or an RPC, such as SendMessage; RATE is calls per second or minute, such as 500/s or 1000/min, or unlimited. Several may be joined by semicolons; in the file they are a mapping."`
	ShareReads     bool     `group:"quotas" default:"true" negatable:"" help:"Let identical reads that are in progress at the same time share one call of Yunxin."`
	MergeReads     string   `group:"quotas" default:"auto" enum:"auto,always,never" help:"Whether concurrent calls of GetConversation are merged into batch calls of Yunxin: always, never, or auto, which merges while the quota is short."`
	Sandbox        bool     `group:"sandbox" help:"Serve a built-in imitation of Yunxin instead of the real one. Nothing leaves the process; no credentials are needed."`
	SandboxAddr    string   `group:"sandbox" placeholder:"ADDR" help:"Address at which the imitation is also served over TCP, for any Yunxin client."`
	SandboxSeed    []byte   `group:"sandbox" type:"filecontent" placeholder:"FILE" help:"JSON file with the accounts, teams and rooms that the imitation starts with, instead of the built-in ones."`
	SandboxRate    int      `group:"sandbox" placeholder:"N" help:"Calls per second and API that the imitation accepts before it answers with its rate limit; unlimited unless set."`
	GRPCAddr       string   `group:"listen" default:"127.0.0.1:9090" help:"Address of the gRPC API. Port 0 picks a free port, here and below."`
	HTTPAddr       string   `group:"listen" default:"127.0.0.1:8080" help:"Address of the REST API and its page."`
	AdminAddr      string   `group:"listen" default:"127.0.0.1:9091" help:"Address of /livez, /readyz, /version and /metrics."`
	InsecureListen bool     `group:"listen" help:"Allow addresses other than loopback without TLS and --callers-file: whoever reaches the server then acts for the app."`
	Reflection     bool     `group:"listen" default:"true" negatable:"" help:"Serve gRPC reflection, which tools such as grpcurl need. With --callers-file it takes a credential, of any scope."`
	Health         bool     `group:"listen" default:"true" negatable:"" help:"Serve gRPC health checks, which take no credential. /livez and /readyz are always there."`
	Docs           bool     `group:"listen" default:"true" negatable:"" help:"Serve the page of the API, to everybody who reaches the REST API."`

	TLSCertFile  string `group:"security" placeholder:"FILE" help:"PEM file with the certificate of the gRPC and the REST API and the chain to its root, for TLS. This file and the ones below are read anew when they change; one that cannot be used leaves the one before in force."`
	TLSKeyFile   string `group:"security" placeholder:"FILE" help:"PEM file with the private key of the certificate."`
	ClientCAFile string `group:"security" placeholder:"FILE" help:"PEM file with the authorities whose certificates callers may show instead of an API key or a token."`
	CallersFile  string `group:"security" placeholder:"FILE" help:"YAML file that says who may call, by which keys, tokens and certificates, and what each caller may do. Without it everybody may do everything, and the server listens on loopback only."`
	AuditFile    string `group:"security" placeholder:"FILE" help:"File to which a line is appended for each call of the API, refused ones too: who, what, for which accounts, from where, how it ended, and nothing of what was said."`

	MaxInFlight     int           `group:"limits" default:"1024" help:"Calls that may be in progress at a time, streams included. Further ones are refused at once."`
	DefaultTimeout  time.Duration `group:"limits" default:"10s" help:"Deadline of a unary call whose caller gave none."`
	MaxTimeout      time.Duration `group:"limits" default:"60s" help:"Longest deadline of a unary call."`
	MaxStreamTime   time.Duration `group:"limits" default:"15m" help:"How long a stream may last."`
	MaxRequestBytes Bytes         `group:"limits" default:"4MiB" help:"Size of the largest request, as a REST body or a gRPC message."`
	StreamInterval  time.Duration `group:"limits" default:"200ms" help:"Least time between two pieces of a stream message; pieces that arrive faster are merged. Yunxin advises 200ms."`
	ShutdownDelay   time.Duration `group:"limits" default:"0s" help:"How long the server goes on as before once it was told to stop, but for /readyz and its health, which say that it stops: the time that load balancers take to notice. The container image sets 5s."`
	DrainTimeout    time.Duration `group:"limits" default:"15s" help:"How long calls in progress may go on after that, when no new ones are taken."`

	LogLevel  slog.Level `group:"logs" default:"info" help:"Least severe messages to log: debug, info, warn or error."`
	LogFormat string     `group:"logs" default:"text" enum:"text,json" help:"Form of the log on standard error: text or json."`
}
