package secrets

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

const (
	first  = "Zx81-qwer-Tyui-4096-asdf"
	second = "Yx82-qwer-Tyui-4096-asdf"
	third  = "Wx83-qwer-Tyui-4096-asdf"
)

func TestParse(t *testing.T) {
	for content, want := range map[string]Values{
		first:                                 {Current: first},
		first + "\n":                          {Current: first},
		"\n" + first + "\r\n":                 {Current: first},
		first + "\n" + second:                 {Current: first, Next: second},
		first + "\nnext " + second + "\n":     {Current: first, Next: second},
		first + "\r\n  old\t" + second + "\n": {Current: first, Old: second},
	} {
		if v, err := Parse([]byte(content)); err != nil || v != want {
			t.Errorf("%q: %+v, %v", content, v, err)
		}
	}
	for _, content := range []string{
		"", "\n", first + " " + second, first + "\nnext", first + "\nnew " + second, first + "\nnext " + second + " x",
		first + "\n" + first, first + "\nold " + first, first + "\nnext " + second + "\nold " + third,
	} {
		if v, err := Parse([]byte(content)); err == nil || strings.Contains(err.Error(), first[:4]) {
			t.Errorf("%q: %+v, %v", content, v, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(first + "\nnext " + second))
	f.Fuzz(func(t *testing.T, content []byte) {
		v, err := Parse(content)
		if err != nil {
			return
		}
		if back, err := Parse(v.Format()); err != nil || back != v {
			t.Errorf("%+v becomes %+v, %v", v, back, err)
		}
	})
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestReload checks which changes of a file are used, and that others leave the values in use and are reported.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, first, 0o600)
	s, err := Open(Config{
		Files: Files{Masters: path}, Cluster: third, Uses: []string{wire.SecretMasters, wire.SecretStorage},
		Log: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	s.OnChange(func() { changes++ })
	in := func(want ...string) {
		t.Helper()
		if got := s.Get(wire.SecretMasters).Tokens(); !slices.Equal(got, want) {
			t.Errorf("%d values, want %d", len(got), len(want))
		}
		if got := s.Get(wire.SecretStorage).Tokens(); !slices.Equal(got, []string{third}) {
			t.Error("another secret has changed")
		}
	}
	in(first)
	write(t, path, first+"\nnext "+second, 0o600)
	s.Reload()
	in(first, second)
	s.Reload() // nothing has changed
	for name, bad := range map[string]struct {
		content string
		mode    os.FileMode
		text    string
	}{
		"empty":     {"", 0o600, "one value"},
		"cut":       {second[:12], 0o600, "has 12 characters"},
		"weak next": {first + "\nnext aaaaaaaaaaaaaaaaaaaaaaaa", 0o600, "different characters"},
		"readable":  {third, 0o644, "mode 0644"},
	} {
		write(t, path, bad.content, bad.mode)
		s.Reload()
		in(first, second)
		if r := s.Report()[0]; !strings.Contains(r.Error, bad.text) || r.Current != Fingerprint(first) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	in(first, second)
	write(t, path, second+"\nold "+first, 0o600)
	s.Reload()
	in(second, first)
	want := []wire.SecretUse{
		{Secret: wire.SecretMasters, Current: Fingerprint(second), Old: Fingerprint(first)},
		{Secret: wire.SecretStorage, Shared: true, Fixed: true, Current: Fingerprint(third)},
	}
	if got := s.Report(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	write(t, path, second, 0o600)
	s.Reload()
	in(second)
	if changes != 3 {
		t.Errorf("%d changes", changes)
	}
}

// TestStart checks which files a node starts with, and that no error shows a part of a secret.
func TestStart(t *testing.T) {
	weak := "aaaaaaaaaaaaaaaaaaaaaaaa"
	for name, c := range map[string]struct {
		content   string
		mode      os.FileMode
		own       bool // the file is not that of the cluster token
		lenient   bool
		err, warn string
	}{
		"good":                      {content: first, mode: 0o600},
		"two values":                {content: first + "\nnext " + second, mode: 0o600},
		"of a group":                {content: first, mode: 0o640},
		"weak":                      {content: weak, mode: 0o600, err: "different characters"},
		"weak, in use":              {content: weak, mode: 0o600, lenient: true, warn: "weak"},
		"weak and a next, in use":   {content: weak + "\n" + first, mode: 0o600, lenient: true, warn: "weak"},
		"weak, its own, in use":     {content: weak, mode: 0o600, own: true, lenient: true, err: "different"},
		"readable":                  {content: first, mode: 0o644, err: "mode 0644"},
		"readable, in use":          {content: first, mode: 0o644, lenient: true, warn: "not private"},
		"readable, its own, in use": {content: first, mode: 0o604, own: true, lenient: true, err: "mode 0604"},
		"short":                     {content: first[:19], mode: 0o600, err: "has 19 characters"},
		"a short next": {
			content: first + "\nnext " + second[:19], mode: 0o600, err: "has 19 characters",
		},
		"three lines":                 {content: first + "\n" + second + "\n" + third, mode: 0o600, err: "3 lines"},
		"larger than a secret can be": {content: strings.Repeat(first+"\n", 1000), mode: 0o600, err: "bytes"},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		write(t, path, c.content, c.mode)
		var logged strings.Builder
		cfg := Config{
			Files: Files{Cluster: path}, Uses: []string{wire.SecretMiner}, Lenient: c.lenient,
			Log: hclog.New(&hclog.LoggerOptions{Output: &logged}),
		}
		if c.own {
			cfg.Files = Files{Miner: path}
		}
		_, err := Open(cfg)
		switch said := fmt.Sprint(err, logged.String()); {
		case (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err):
			t.Errorf("%s: %v", name, err)
		case (logged.Len() == 0) != (c.warn == "") || !strings.Contains(logged.String(), c.warn):
			t.Errorf("%s: logged %q", name, &logged)
		case strings.Contains(said, first[:5]) || strings.Contains(said, weak[:5]):
			t.Errorf("%s: a part of the secret is shown: %s", name, said)
		}
	}
	if _, err := Open(Config{Uses: Names, Log: hclog.NewNullLogger()}); err == nil {
		t.Error("no secret")
	}
	missing := Files{Cluster: filepath.Join(t.TempDir(), "missing")}
	if _, err := Open(Config{Files: missing, Uses: Names, Log: hclog.NewNullLogger()}); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestWriteFile checks that a file is replaced as a whole with mode 0600, and that one is refused that the node might
// not read afterwards.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	for _, v := range []Values{{Current: first}, {Current: first, Next: second}, {Current: second, Old: first}} {
		if err := WriteFile(path, v); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if back, err := ReadFile(path); err != nil || back != v {
			t.Errorf("%+v, %v", back, err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, Values{Current: third}); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("a link: %v", err)
	}
	write(t, path, first, 0o640)
	if err := WriteFile(path, Values{Current: third}); err == nil || !strings.Contains(err.Error(), "group") {
		t.Errorf("a file of a group: %v", err)
	}
	if err := Check(New()); err != nil {
		t.Errorf("a new value %v", err)
	}
}

// TestFingerprints checks that a fingerprint tells values apart, and that weak values have none of their own.
func TestFingerprints(t *testing.T) {
	if a, b := Fingerprint(first), Fingerprint(second); a == b || len(a) != 8 || a != Fingerprint(first) {
		t.Errorf("%s and %s", a, b)
	}
	if Fingerprint("password") != Weak || Fingerprint("hunter2") != Weak || Fingerprint("") != "" {
		t.Error("a weak value has a fingerprint")
	}
	// The form is part of the API: a change makes nodes of two versions look as if they had different secrets.
	if got := Fingerprint(first); got != "8ba776d6" {
		t.Errorf("%s", got)
	}
}
