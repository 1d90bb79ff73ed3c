package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An example is a command of a README and the output it is followed by.
type example struct {
	line    int // of the command
	command string
	kind    string // of the output: json or text
	output  string
}

var commands = regexp.MustCompile(`(?m)(^|[\s$(;|&])(grpcurl|curl)\s`)

// examples finds the examples of a Markdown text: blocks of sh that begin with a
// comment or call curl or grpcurl, each followed by a block with the output.
// Other blocks of sh, such as how to start the server, are not run.
func examples(text string) ([]example, error) {
	var all []example
	var open *example // waits for its output
	var block []string
	kind, inside := "", false
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !inside:
			kind, inside, block = fence, true, nil
		case !isFence && inside:
			block = append(block, line)
		case isFence:
			inside = false
			content := strings.Join(block, "\n")
			isExample := kind == "sh" && (strings.HasPrefix(content, "#") || commands.MatchString(content))
			if open != nil && kind != "json" && kind != "text" {
				return nil, fmt.Errorf("line %d: this command has no output after it", open.line)
			}
			if open != nil {
				open.kind, open.output = kind, content
				all, open = append(all, *open), nil
			} else if isExample {
				open = &example{line: i + 1 - len(block), command: content}
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: this command has no output after it", open.line)
	}
	return all, nil
}

// TestREADME runs the examples of the READMEs, in order, against one server each,
// and compares what they print with what the README says.
func TestREADME(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../README.md", "../README.zh-CN.md", "testdata/readme/sample.md"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				t.Skipf("%s does not exist", name)
			}
			if err != nil {
				t.Fatal(err)
			}
			all, err := examples(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == 0 {
				t.Fatalf("%s has no examples", name)
			}
			tools := exampleTools(t, all)
			f := startFacade(t, "--sandbox")
			for _, e := range all {
				t.Run(fmt.Sprintf("line %d", e.line), func(t *testing.T) { e.run(t, f, tools) })
			}
		})
	}
}

// exampleTools returns a directory with the programs that the examples call. A
// missing one skips the test, but not in CI: nobody would notice.
func exampleTools(t *testing.T, all []example) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range all {
		for _, m := range commands.FindAllStringSubmatch(e.command, -1) {
			path, err := findTool(t.Context(), m[2])
			if err == nil {
				err = os.Symlink(path, filepath.Join(dir, m[2]))
			}
			switch {
			case err == nil || errors.Is(err, fs.ErrExist):
			case os.Getenv("CI") == "true":
				t.Fatalf("%s is needed to run the examples: %v", m[2], err)
			default:
				t.Skipf("%s is needed to run the examples: %v", m[2], err)
			}
		}
	}
	return dir
}

// findTool finds curl on this machine and grpcurl among the pinned tools.
func findTool(ctx context.Context, name string) (string, error) {
	if name == "curl" {
		return exec.LookPath(name)
	}
	build := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "-n", name)
	build.Dir = ".."
	var problem bytes.Buffer
	build.Stderr = &problem
	path, err := build.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, problem.Bytes())
	}
	return strings.TrimSpace(string(path)), nil
}

var (
	restAddress = regexp.MustCompile(`(localhost|127\.0\.0\.1):8080`)
	grpcAddress = regexp.MustCompile(`(localhost|127\.0\.0\.1):9090`)
)

func (e *example) run(t *testing.T, f *facade, tools string) {
	t.Helper()
	rest, err := url.Parse(f.restURL)
	if err != nil {
		t.Fatal(err)
	}
	command := restAddress.ReplaceAllString(e.command, rest.Host)
	command = grpcAddress.ReplaceAllString(command, f.grpcAddr)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "sh", "-uc", command)
	shell.Dir = ".."
	shell.Env = append(os.Environ(), "PATH="+tools+string(os.PathListSeparator)+os.Getenv("PATH"), "no_proxy=*")
	var problem bytes.Buffer
	shell.Stderr = &problem
	printed, err := shell.Output()
	// grpcurl prints a refused call on its standard error, and curl does not
	// mind one: what counts is what a reader sees.
	if len(printed) == 0 {
		printed = problem.Bytes()
	}
	if len(printed) == 0 {
		t.Fatalf("printed nothing: %v", err)
	}
	if err := e.compare(t, printed); err != nil {
		t.Errorf("%v\n%s\nprinted\n%s", err, e.command, printed)
	}
}

// compare compares what was printed with what the README shows. What is another
// value each time may be written as it was once.
func (e *example) compare(tb testing.TB, printed []byte) error {
	tb.Helper()
	if e.kind == "json" {
		return alike("", exact(tb, []byte(e.output)), exact(tb, printed))
	}
	if shown, have := steady(e.output), steady(string(printed)); shown != have {
		return fmt.Errorf("the text differs: README\n%s\nnow\n%s", shown, have)
	}
	return nil
}
