package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/yunxin-facade/yunxin-facade/internal/files"
)

const maxFile = 1 << 20 // bytes of a callers file

// Known is what there is for a callers file to name.
type Known struct {
	Scopes []string // of the API: see Policy.Scopes
	Apps   []string // of the server: at least one
}

// Load reads a callers file and the files of keys that it names. Its error is a
// text for the operator: every broken rule with its line, and no part of a key.
//
// What takes rights away is never an error, or a slip in it would keep them alive:
// a caller may be without credentials, scopes and accounts, and there may be no
// callers if the list says so. What has expired may stay.
func Load(path string, known Known) (*Directory, error) {
	data, err := files.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	d, err := parse(data, known, files.Read)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d.files = append([]string{path}, d.files...)
	return d, nil
}

// A builder fills a directory from a callers file.
type builder struct {
	walk
	*Directory

	known Known
	read  func(path string, most int64) ([]byte, error)
	lines map[string]int // of what must be unique
}

func parse(data []byte, known Known, read func(string, int64) ([]byte, error)) (*Directory, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, another yaml.Node
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		if strings.Contains(err.Error(), keyPrefix) {
			return nil, errors.New("not YAML; what is wrong is at a key, which is not shown here")
		}
		return nil, err
	}
	if len(document.Content) == 0 {
		return nil, errors.New("the file is empty; callers: [] is how to have no callers")
	}
	if err := decoder.Decode(&another); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the end of the document")
	}
	b := &builder{
		Directory: &Directory{
			names: map[string]*Caller{}, keys: map[string]apiKey{}, subjects: map[subject]*Caller{},
			uris: map[string]*Caller{}, hosts: map[string]*Caller{}, issuers: map[string]*issuer{},
		},
		known: known, read: read, lines: map[string]int{},
	}
	root := document.Content[0]
	values := b.fields(root, "callers", "jwt")
	if values == nil {
		return nil, b.err()
	}
	if values["callers"] == nil {
		b.failf(root, "callers is missing; callers: [] is how to have none")
	}
	// The issuers come first, for callers refer to them.
	for _, n := range b.items(values["jwt"]) {
		b.issuer(n)
	}
	for _, n := range b.items(values["callers"]) {
		b.caller(n)
	}
	if err := b.err(); err != nil {
		return nil, err
	}
	return b.Directory, nil
}

// unique takes a name that only one may have.
func (b *builder) unique(n *yaml.Node, kind, name string) bool {
	key := kind + " " + name
	if line, taken := b.lines[key]; taken {
		b.failf(n, "%s %s is on line %d already", kind, quote(name), line)
		return false
	}
	b.lines[key] = n.Line
	return true
}

func (b *builder) issuer(n *yaml.Node) {
	values := b.fields(n, "issuer", "audience", "algorithms", "jwks_file", "jwks_url")
	if values == nil {
		return
	}
	i := &issuer{}
	var named bool
	if i.name, named = b.required(n, values, "issuer"); named && b.unique(values["issuer"], "issuer", i.name) {
		b.issuers[i.name] = i
	}
	i.audience, _ = b.required(n, values, "audience")
	for _, item := range b.items(values["algorithms"]) {
		name, ok := b.text(item)
		if _, exists := algorithms[name]; ok && !exists {
			b.failf(item, "%s is not one of the algorithms %s", quote(name), strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
		}
		i.algorithms = append(i.algorithms, name)
	}
	if len(i.algorithms) == 0 {
		b.failf(n, "algorithms must name at least one")
	}
	if (values["jwks_file"] == nil) == (values["jwks_url"] == nil) {
		b.failf(n, "one of jwks_file and jwks_url is needed")
	}
	if path, ok := b.text(values["jwks_file"]); ok {
		b.files = append(b.files, path)
		data, err := b.read(path, maxJWKS)
		if err == nil {
			i.keys, err = parseJWKS(data)
		}
		if err != nil {
			b.failf(values["jwks_file"], "the keys of %s: %w", quote(i.name), err)
		}
	}
	if text, ok := b.text(values["jwks_url"]); ok {
		if i.url = text; !isKeyURL(text) {
			b.failf(values["jwks_url"], "must be a URL with https, or with http on the own machine, without user, password and fragment")
		}
	}
}

// isKeyURL reports whether keys may be fetched from a URL. Whoever answers there
// decides who is which caller.
func isKeyURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Hostname() == "" || strings.Contains(text, "#") {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

var (
	callerName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	hostName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

func (b *builder) caller(n *yaml.Node) {
	values := b.fields(n, "name", "keys", "jwt", "certificates", "scopes", "apps", "accounts", "expires", "quota_share")
	if values == nil {
		return
	}
	c := &Caller{scopes: map[string]bool{}, share: 1}
	if name, ok := b.required(n, values, "name"); ok {
		if !callerName.MatchString(name) {
			b.failf(values["name"], "a name begins with a small letter or a digit; up to 63 more, '.', '_' and '-' may follow")
		}
		if b.unique(values["name"], "name", name) {
			c.name = name
			b.names[name] = c
		}
	}
	if values["scopes"] == nil {
		b.failf(n, "scopes is missing; [] is how to have none")
	}
	for _, item := range b.items(values["scopes"]) {
		b.scope(c, item)
	}
	b.apps(c, n, values["apps"])
	if values["accounts"] != nil {
		c.bound = &accounts{exact: map[string]bool{}}
	}
	for _, item := range b.items(values["accounts"]) {
		if text, ok := b.text(item); ok {
			if problem := c.bound.add(text); problem != "" {
				b.failf(item, "the account %s %s", quote(text), problem)
			}
		}
	}
	c.expires = b.time(values["expires"])
	if text, ok := b.text(values["quota_share"]); ok {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil || !(share > 0 && share <= 1) {
			b.failf(values["quota_share"], "must be a number above 0 and at most 1")
		}
		c.share = share
	}
	for _, item := range b.items(values["keys"]) {
		b.key(c, item)
	}
	for _, item := range b.items(values["jwt"]) {
		b.subject(c, item)
	}
	for _, item := range b.items(values["certificates"]) {
		b.certificate(c, item)
	}
}

// scope gives a caller the scopes of a pattern. They are written out here, so
// that one look reports whether a caller has one.
func (b *builder) scope(c *Caller, n *yaml.Node) {
	pattern, ok := b.text(n)
	if !ok {
		return
	}
	prefix, wild := strings.CutSuffix(pattern, "*")
	if wild && prefix != "" && !strings.HasSuffix(prefix, ".") {
		b.failf(n, "the scope %s: '*' stands alone or behind a dot", quote(pattern))
		return
	}
	found := false
	for _, scope := range b.known.Scopes {
		if scope == pattern || wild && strings.HasPrefix(scope, prefix) {
			c.scopes[scope], found = true, true
		}
	}
	if !found {
		b.failf(n, "there is no scope %s: there are %s", quote(pattern), strings.Join(b.known.Scopes, ", "))
	}
}

func (b *builder) apps(c *Caller, mapping, n *yaml.Node) {
	for _, item := range b.items(n) {
		app, ok := b.text(item)
		if ok && !slices.Contains(b.known.Apps, app) {
			b.failf(item, "there is no app %s: there are %s", quote(app), strings.Join(b.known.Apps, ", "))
		}
		c.apps = append(c.apps, app)
	}
	switch {
	case n == nil && len(b.known.Apps) == 1:
		c.apps = slices.Clone(b.known.Apps)
	case n == nil:
		b.failf(mapping, "apps is missing, and there are several: %s", strings.Join(b.known.Apps, ", "))
	case n.Kind == yaml.SequenceNode && len(c.apps) == 0:
		b.failf(n, "apps must name at least one")
	}
}

func (b *builder) key(c *Caller, n *yaml.Node) {
	values := b.fields(n, "id", "sha256", "expires")
	if values == nil {
		return
	}
	key := apiKey{caller: c, expires: b.time(values["expires"])}
	if text, ok := b.required(n, values, "sha256"); ok {
		// Decode would write beyond the end.
		if sum, err := hex.DecodeString(text); err == nil && len(sum) == sha256.Size {
			copy(key.sum[:], sum)
		} else {
			b.failf(values["sha256"], "sha256 must have 64 hex digits: those of the SHA-256 of the whole key")
		}
	}
	if id, ok := b.required(n, values, "id"); ok {
		if !isID(id) {
			b.failf(values["id"], "the id of a key has 8 hex digits in lower case: those behind yxf_ in the key")
		} else if b.unique(values["id"], "key", id) {
			b.keys[id] = key
		}
	}
}

func (b *builder) subject(c *Caller, n *yaml.Node) {
	values := b.fields(n, "issuer", "subject")
	if values == nil {
		return
	}
	issuer, okIssuer := b.required(n, values, "issuer")
	name, okName := b.required(n, values, "subject")
	if okIssuer && b.issuers[issuer] == nil {
		b.failf(values["issuer"], "the issuer %s is not in the list jwt of the file", quote(issuer))
	}
	if okIssuer && okName && b.unique(values["subject"], "subject of "+strconv.Quote(issuer), name) {
		b.subjects[subject{issuer, name}] = c
	}
}

func (b *builder) certificate(c *Caller, n *yaml.Node) {
	name, ok := b.text(n)
	if !ok {
		return
	}
	byName := b.hosts
	if u, err := url.Parse(name); strings.Contains(name, ":") {
		byName = b.uris
		// Certificates are compared in the form in which Go writes URIs.
		if ok = err == nil && u.Scheme != "" && u.String() == name; !ok {
			b.failf(n, "%s is not a URI in its usual form", quote(name))
		}
	} else if ok = hostName.MatchString(name); !ok {
		b.failf(n, "%s is neither a DNS name in small letters nor a URI; there are no wildcards", quote(name))
	}
	if ok && b.unique(n, "certificate", name) {
		byName[name] = c
	}
}
