package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestNewKey(t *testing.T) {
	key, entry, err := NewKey(strings.NewReader("\x3f\x9a\x1c\x2e" + strings.Repeat("\xff", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "yxf_3f9a1c2e_" + strings.Repeat("_", 42) + "8"; key != want {
		t.Errorf("%s, want %s", key, want)
	}
	sum := sha256.Sum256([]byte(key))
	if want := (KeyEntry{ID: "3f9a1c2e", SHA256: hex.EncodeToString(sum[:])}); entry != want {
		t.Errorf("%v, want %v", entry, want)
	}
	if want := "{id: 3f9a1c2e, sha256: " + entry.SHA256 + "}"; entry.String() != want {
		t.Errorf("%s, want %s", entry, want)
	}
	another, _, err := NewKey(rand.Reader)
	if _, ok := keyID(another); err != nil || !ok {
		t.Errorf("not a key, %v", err)
	}
	for _, random := range []io.Reader{strings.NewReader("short"), iotest.ErrReader(io.ErrUnexpectedEOF)} {
		if key, entry, err := NewKey(random); err == nil || key != "" || entry != (KeyEntry{}) {
			t.Errorf("%d bytes, %v, %v", len(key), entry, err)
		}
	}
}

func TestCredentialsNeverShow(t *testing.T) {
	secret, _, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := Credentials{Authorization: []string{bearer + secret}, APIKey: []string{secret}}
	var out bytes.Buffer
	for _, v := range []any{c, &c, []Credentials{c}, struct{ C Credentials }{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(text)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("", "v", v)
	}
	for _, part := range []string{secret, secret[idEnd+1:], hex.EncodeToString([]byte(secret)), strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]")} {
		if strings.Contains(out.String(), part) {
			t.Errorf("a key shows:\n%s", out.String())
		}
	}
}

// secretOf is what follows the id in the keys of tests.
var secretOf = strings.Repeat("A", 43)

func TestByKey(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	good, late := "yxf_0123abcd_"+secretOf, "yxf_ffffffff_"+secretOf
	caller := &Caller{name: "x"}
	d := &Directory{keys: map[string]apiKey{
		"0123abcd": {caller: caller, sum: sha256.Sum256([]byte(good)), expires: now.Add(time.Nanosecond)},
		"ffffffff": {caller: caller, sum: sha256.Sum256([]byte(late)), expires: now},
		"00000000": {caller: caller}, // the hash of nothing that is known
	}}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"good":               {good, nil},
		"expired":            {late, errKeyExpired},
		"expired, forged":    {late[:55] + "Q", errKeyWrong},
		"wrong secret":       {good[:55] + "Q", errKeyWrong},
		"not canonical":      {good[:55] + "B", errKeyForm},
		"zero hash":          {"yxf_00000000_" + secretOf, errKeyWrong},
		"unknown id":         {"yxf_0123abce_" + secretOf, errKeyUnknown},
		"capital id":         {"yxf_0123ABCD_" + secretOf, errKeyForm},
		"capital prefix":     {"YXF_0123abcd_" + secretOf, errKeyForm},
		"id is no hex":       {"yxf_0123abcg_" + secretOf, errKeyForm},
		"no separator":       {"yxf_0123abcd-" + secretOf, errKeyForm},
		"empty":              {"", errKeyForm},
		"prefix":             {keyPrefix, errKeyForm},
		"short":              {good[:55], errKeyForm},
		"long":               {good + "A", errKeyForm},
		"space behind":       {good + " ", errKeyForm},
		"space before":       {" " + good[:55], errKeyForm},
		"line break inside":  {good[:55] + "\n", errKeyForm},
		"padding":            {good[:55] + "=", errKeyForm},
		"other base64":       {good[:55] + "/", errKeyForm},
		"not ASCII":          {good[:54] + "é", errKeyForm},
		"NUL":                {good[:55] + "\x00", errKeyForm},
		"much":               {good + strings.Repeat("A", 1<<20), errKeyForm},
		"the hash":           {fmt.Sprintf("%x", d.keys["0123abcd"].sum), errKeyForm},
		"the secret of late": {"yxf_0123abcd_" + strings.Repeat("B", 42) + "A", errKeyWrong},
	} {
		got, err := d.byKey(c.text, now)
		if !errors.Is(err, c.want) || (got == caller) != (c.want == nil) || got != nil && err != nil {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func FuzzKey(f *testing.F) {
	good := "yxf_0123abcd_" + secretOf
	for _, seed := range []string{good, "", keyPrefix, good + "A", good[:20], strings.ToUpper(good), "yxf_é123abc_" + secretOf} {
		f.Add(seed)
	}
	caller := &Caller{}
	d := &Directory{keys: map[string]apiKey{"0123abcd": {caller: caller, sum: sha256.Sum256([]byte(good))}}}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := d.byKey(text, time.Time{})
		if (text == good) != (got == caller && err == nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if id, ok := keyID(text); ok && text[:idEnd+1] != keyPrefix+id+"_" {
			t.Errorf("%q has the id %q", text, id)
		}
	})
}
