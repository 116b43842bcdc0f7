package worker_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/worker"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	made, _, err := worker.LoadIdentity(dir)
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
	again, damaged, err := worker.LoadIdentity(dir)
	if err != nil || damaged != nil || again != made {
		t.Errorf("%+v, %v, want %+v", again, err, made)
	}
	other, _, err := worker.LoadIdentity(t.TempDir())
	if err != nil || other.MasterToken == made.MasterToken {
		t.Errorf("two workers with one token: %v", err)
	}
}

func TestIdentitySave(t *testing.T) {
	dir := t.TempDir()
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	id.ID, id.AccessToken, id.Group = "w1", "access", "g"
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	back, damaged, err := worker.LoadIdentity(dir)
	if err != nil || damaged != nil || back != id {
		t.Errorf("%+v, %v, want %+v", back, err, id)
	}
	if err := id.Save(filepath.Join(dir, "missing")); err == nil {
		t.Error("saved into a folder that is not there")
	}
	if _, _, err := worker.LoadIdentity(filepath.Join(dir, "missing")); err == nil {
		t.Error("a new identity that could not be written down")
	}
}

// TestEveryFlippedBitOfAnIdentityIsFound checks that every flipped bit of the file is detected. The worker becomes a
// new one, the file is moved aside, and no error or log line contains its content.
func TestEveryFlippedBitOfAnIdentityIsFound(t *testing.T) {
	dir := t.TempDir()
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	id.ID, id.AccessToken, id.Group = "w1", "access", "g"
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	every := 1
	if testing.Short() {
		every = 7 // about one bit of each byte, a different one in the next
	}
	for bit := 0; bit < 8*len(good); bit += every {
		content := bytes.Clone(good)
		content[bit/8] ^= 1 << (bit % 8)
		checkDamaged(t, content, id)
	}
	for cut := range good {
		checkDamaged(t, good[:cut], id)
	}
	checkDamaged(t, append(bytes.Clone(good), '\n'), id)
}

func checkDamaged(t *testing.T, content []byte, before worker.Identity) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "identity.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	id, damaged, err := worker.LoadIdentity(dir)
	if err != nil || damaged == nil || id.ID != "" || id.MasterToken == "" || id.MasterToken == before.MasterToken {
		t.Fatalf("%q: %+v, %v, %v", content, id, damaged, err)
	}
	if !strings.Contains(damaged.Error(), path) || strings.Contains(damaged.Error(), before.MasterToken) {
		t.Fatalf("it must name the file and no token: %v", damaged)
	}
	if kept, err := os.ReadFile(path + ".damaged-1"); err != nil || !bytes.Equal(kept, content) {
		t.Fatalf("the damaged file was not kept: %q, %v", kept, err)
	}
	if again, damaged, err := worker.LoadIdentity(dir); err != nil || damaged != nil || again != id {
		t.Fatalf("the new identity: %+v, %v, %v", again, damaged, err)
	}
}

func TestIdentityOfANewerVersion(t *testing.T) {
	for name, content := range map[string]string{
		"newer version":            "{\n  \"version\": 2,\n  \"id\": \"w1\",\n  \"checksum\": 3258330572\n}\n",
		"newer with another shape": "{\n  \"version\": 2,\n  \"id\": [\"w1\"],\n  \"checksum\": 1593805007\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "identity.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if id, damaged, err := worker.LoadIdentity(dir); !errors.Is(err, durable.ErrNewerFormat) ||
				damaged != nil || id != (worker.Identity{}) {
				t.Fatalf("%+v, %v, %v", id, damaged, err)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != content {
				t.Errorf("the file changed: %q, %v", data, err)
			}
		})
	}
}

// TestReadIdentity checks that ReadIdentity returns the same as LoadIdentity, and never changes the folder.
func TestReadIdentity(t *testing.T) {
	dir := t.TempDir()
	if id, err := worker.ReadIdentity(dir); err != nil || id != (worker.Identity{}) {
		t.Errorf("of an empty folder: %+v, %v", id, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
	made, _, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	made.Group = "g"
	if err := made.Save(dir); err != nil {
		t.Fatal(err)
	}
	if id, err := worker.ReadIdentity(dir); err != nil || id != made {
		t.Errorf("%+v, %v, want %+v", id, err, made)
	}
	path := filepath.Join(dir, "identity.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(data, []byte(`"g"`), []byte(`"h"`), 1)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := worker.ReadIdentity(dir); err != nil || id != (worker.Identity{}) {
		t.Errorf("damaged: %+v, %v", id, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
		t.Errorf("the file changed: %q, %v", after, err)
	}
}

// TestFilesOfTheFolderAreNotSymbolicLinks checks that files of a data folder are not read through symbolic links, and
// do not replace them.
func TestFilesOfTheFolderAreNotSymbolicLinks(t *testing.T) {
	open := map[string]func(dir string) error{
		"identity.json": func(dir string) error { _, _, err := worker.LoadIdentity(dir); return err },
		"starts":        func(dir string) error { _, _, err := worker.OpenStarts(dir); return err },
		"fence":         func(dir string) error { _, err := worker.OpenFence(dir); return err },
	}
	for name, open := range open {
		dir, outside := t.TempDir(), t.TempDir()
		if _, _, err := worker.OpenStarts(outside); err != nil {
			t.Fatal(err)
		}
		if _, _, err := worker.LoadIdentity(outside); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{filepath.Join(outside, name), filepath.Join(outside, "none")} {
			link := filepath.Join(dir, name)
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			if err := open(dir); !errors.Is(err, durable.ErrNotFile) {
				t.Errorf("%s leads to %s: %v, want %v", name, target, err, durable.ErrNotFile)
			}
			if got, err := os.Readlink(link); err != nil || got != target {
				t.Errorf("%s was changed: %q, %v", name, got, err)
			}
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
		}
	}
}
