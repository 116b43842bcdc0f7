package worker_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/worker"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	made, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if made.ID != "" || made.AccessToken != "" || made.Group != "" || len(made.MasterToken) < 20 {
		t.Errorf("%+v", made)
	}
	info, err := os.Stat(filepath.Join(dir, "identity.json"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := worker.LoadIdentity(dir)
	if err != nil || again != made {
		t.Errorf("%+v, %v, want %+v", again, err, made)
	}
	other, err := worker.LoadIdentity(t.TempDir())
	if err != nil || other.MasterToken == made.MasterToken {
		t.Errorf("two workers with one token: %v", err)
	}
}

func TestIdentitySave(t *testing.T) {
	dir := t.TempDir()
	id, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	id.ID, id.AccessToken, id.Group = "w1", "access", "g"
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	back, err := worker.LoadIdentity(dir)
	if err != nil || back != id {
		t.Errorf("%+v, %v, want %+v", back, err, id)
	}
	if err := id.Save(filepath.Join(dir, "missing")); err == nil {
		t.Error("saved into a folder that is not there")
	}
	if _, err := worker.LoadIdentity(filepath.Join(dir, "missing")); err == nil {
		t.Error("a new identity that could not be written down")
	}
}

func TestIdentityThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    error // nil: any
	}{
		"empty":                    {"", nil},
		"no JSON":                  {`{"version":1,"id":"w1","master_token":"secret`, nil},
		"no version":               {`{"id":"w1","master_token":"secret"}`, nil},
		"no token":                 {`{"version":1,"id":"w1"}`, nil},
		"another type":             {`{"version":1,"id":7,"master_token":"secret"}`, nil},
		"newer version":            {`{"version":2,"id":"w1","master_token":"secret"}`, worker.ErrNewerFormat},
		"newer with another shape": {`{"version":2,"id":{"name":"w1"},"master_token":["secret"]}`, worker.ErrNewerFormat},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "identity.json")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			id, err := worker.LoadIdentity(dir)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || id != (worker.Identity{}) {
				t.Fatalf("%+v, %v", id, err)
			}
			if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
				t.Errorf("the error must name the file and no token: %v", err)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != c.content {
				t.Errorf("the file changed: %q, %v", data, err)
			}
		})
	}
}
