package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNodeSecrets checks which secrets of nodes are refused with a new data folder and give a warning with one in use,
// and that no refusal contains a part of one.
func TestNodeSecrets(t *testing.T) {
	const good = "Zx81-qwer-Tyui-4096-asdf"
	for name, c := range map[string]struct {
		secret string
		mode   os.FileMode
		err    string // "" if it is accepted
	}{
		"good":                      {good, 0o600, ""},
		"of a group":                {good, 0o640, ""},
		"readable by all":           {good, 0o644, "mode 0644"},
		"writable by all":           {good, 0o602, "mode 0602"},
		"19 characters":             {good[:19], 0o600, "has 19 characters"},
		"20 characters":             {good[:20], 0o600, ""},
		"513 characters":            {strings.Repeat(good, 22)[:513], 0o600, "has 513 characters"},
		"7 different characters":    {"abcdefgabcdefgabcdefg", 0o600, "has 7 different characters"},
		"8 different characters":    {"abcdefghabcdefghabcdefgh", 0o600, ""},
		"two words":                 {good + " " + good, 0o600, "one token"},
		"empty":                     {"", 0o600, "one token"},
		"characters, and not bytes": {strings.Repeat("é", 19), 0o600, "has 19 characters"},
	} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(c.secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadNodeSecret("cluster token", path, "", filepath.Join(t.TempDir(), "new"), noWarning(t))
		switch {
		case c.err == "" && (err != nil || got != c.secret):
			t.Errorf("%s: %v", name, err)
		case c.err != "" && (err == nil || got != "" || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %q, %v", name, got, err)
		case err != nil && len(c.secret) > 0 && strings.Contains(err.Error(), c.secret[:5]):
			t.Errorf("%s: the refusal shows the secret: %v", name, err)
		}
		if strings.Contains(c.err, "one token") {
			continue
		}
		for _, identity := range []string{"master.json", "identity.json"} {
			used, warned := t.TempDir(), ""
			if err := os.WriteFile(filepath.Join(used, identity), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadNodeSecret("cluster token", path, "", used, func(message string, args ...any) {
				warned = fmt.Sprint(message, args)
			})
			if err != nil || got != c.secret || (warned == "") != (c.err == "") || !strings.Contains(warned, c.err) ||
				strings.Contains(warned, c.secret[:5]) {
				t.Errorf("%s, a folder with %s: %v, warning %q", name, identity, err, warned)
			}
		}
	}
	t.Setenv("SECRET_OF_TEST", "short")
	if _, err := ReadNodeSecret("cluster token", "", "SECRET_OF_TEST", "", noWarning(t)); err == nil {
		t.Error("a short secret of the environment is accepted")
	}
	t.Setenv("SECRET_OF_TEST", "")
	if got, err := ReadNodeSecret("cluster token", "", "SECRET_OF_TEST", "", noWarning(t)); err != nil || got != "" {
		t.Errorf("no secret: %q, %v", got, err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := ReadNodeSecret("cluster token", missing, "", "", noWarning(t)); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

// noWarning fails the test if it is called.
func noWarning(t *testing.T) func(string, ...any) {
	return func(message string, args ...any) { t.Errorf("a warning in place of a refusal: %s %v", message, args) }
}

// TestMountedSecrets checks that a secret of a Kubernetes volume is accepted with a warning where all users of the
// container may read it, and refused where they may change it.
func TestMountedSecrets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte("Zx81-qwer-Tyui-4096-asdf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for mode, warnings := range map[os.FileMode]int{0o400: 0, 0o444: 1, 0o644: 1, 0o666: -1} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		warned := 0
		_, err := ReadNodeSecret("cluster token", path, "", "", func(string, ...any) { warned++ })
		_, private := ReadPrivateSecret(path, "")
		if (err != nil) != (warnings < 0) || (private != nil) != (warnings < 0) || warned != max(0, warnings) {
			t.Errorf("mode %04o: %v, %v, %d warnings", mode, err, private, warned)
		}
	}
}
