// Package certstest makes the certificates of nodes for tests.
package certstest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
)

// NewAuthority makes an authority, of the domain "test".
func NewAuthority(t *testing.T) certs.Pair {
	t.Helper()
	pair, err := certs.NewAuthority("test", certs.AuthorityLifetime, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Files makes the files of a node's certificate for hosts. They are removed with the test.
func Files(t *testing.T, authority certs.Pair, role, name string, hosts ...string) certs.Files {
	t.Helper()
	a, err := certs.OpenAuthority(authority)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Issue(role, name, hosts, certs.NodeLifetime, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := certs.Files{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), CA: filepath.Join(dir, "a")}
	for path, data := range map[string][]byte{files.Cert: p.Cert, files.Key: p.Key, files.CA: authority.Cert} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Open returns the certificates of a node on 127.0.0.1.
func Open(t *testing.T, authority certs.Pair, role, name string) *certs.Store {
	t.Helper()
	store, err := certs.Open(Files(t, authority, role, name, "127.0.0.1"), 0, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return store
}
