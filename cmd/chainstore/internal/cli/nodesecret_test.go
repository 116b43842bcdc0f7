package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNodeSecrets checks which secrets of nodes are refused, and that no refusal contains a part of one.
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
		got, err := ReadNodeSecret("cluster token", path, "")
		switch {
		case c.err == "" && (err != nil || got != c.secret):
			t.Errorf("%s: %v", name, err)
		case c.err != "" && (err == nil || got != "" || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %q, %v", name, got, err)
		case err != nil && len(c.secret) > 0 && strings.Contains(err.Error(), c.secret[:5]):
			t.Errorf("%s: the refusal shows the secret: %v", name, err)
		}
	}
	t.Setenv("SECRET_OF_TEST", "short")
	if _, err := ReadNodeSecret("cluster token", "", "SECRET_OF_TEST"); err == nil {
		t.Error("a short secret of the environment is accepted")
	}
	t.Setenv("SECRET_OF_TEST", "")
	if got, err := ReadNodeSecret("cluster token", "", "SECRET_OF_TEST"); err != nil || got != "" {
		t.Errorf("no secret: %q, %v", got, err)
	}
	if _, err := ReadNodeSecret("cluster token", filepath.Join(t.TempDir(), "missing"), ""); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}
