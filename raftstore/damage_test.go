package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/durable"
)

// A master that has lost its log and votes does not start: it would vote twice, and continue as if it had never
// acknowledged anything.
func TestLostLogRefused(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	create(t, "one", nodes...)
	agree(t, nodes...)
	for i, lose := range []func(path string) error{os.Remove, func(path string) error { return os.Truncate(path, 0) }} {
		n := nodes[i]
		n.stop()
		if err := lose(filepath.Join(n.cfg.Dir, "raft.db")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(n.cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "raft.db") ||
			!strings.Contains(err.Error(), "--join") {
			t.Errorf("raft.db lost, way %d: %v", i, err)
		}
		if r, err := OpenRecovery(n.cfg.Dir, false, nil, nil); !errors.Is(err, ErrDisk) {
			t.Errorf("recovered from, way %d: %v", i, errors.Join(err, r.Close()))
		}
	}
}

// TestFolderWithoutItsIdentity checks that a folder with any file of a member, and without that member's identity, is
// refused and left as it is.
func TestFolderWithoutItsIdentity(t *testing.T) {
	t.Parallel()
	cfg := snapshotted(t)
	files := []string{"raft.db", "log", "snapshots", "starts"}
	for _, kept := range files {
		t.Run(kept, func(t *testing.T) {
			own := cfg
			own.Dir = filepath.Join(t.TempDir(), "m")
			copyFolder(t, cfg.Dir, own.Dir)
			for _, name := range append(files, "master.json") {
				if name != kept {
					if err := os.RemoveAll(filepath.Join(own.Dir, name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if kept == "starts" { // a master alone has none
				if err := os.WriteFile(startsPath(own.Dir), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := folderContent(t, own.Dir)
			for range 2 {
				s, err := Open(own)
				if err == nil {
					_ = s.Close()
				}
				if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), own.Dir) ||
					!strings.Contains(err.Error(), "master.json is missing, and "+kept) ||
					!strings.Contains(err.Error(), "--join") || !strings.Contains(err.Error(), "docs/masters.md") {
					t.Errorf("%v", err)
				}
			}
			if after := folderContent(t, own.Dir); !maps.Equal(after, before) {
				t.Errorf("the folder has changed: %v", slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

// folderContent returns the content of all files of a folder.
func folderContent(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		content[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestFolderWithAnOlderIdentity checks that a folder is refused if its identity is from before the master joined its
// group. The leader would admit the master again before raft found the data.
func TestFolderWithAnOlderIdentity(t *testing.T) {
	t.Parallel()
	cfg := snapshotted(t)
	id, err := loadIdentity(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	first := identity{Version: id.Version, ID: id.ID, Boot: 1, VoteSums: true}
	if err := first.save(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	s, err := Open(cfg)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), "master.json names no group") {
		t.Errorf("%v", err)
	}
}

// snapshotted returns the folder of a master that has taken a snapshot and trimmed its log.
func snapshotted(t *testing.T) Config {
	t.Helper()
	nodes := testGroup(t, 1, func(c *Config) {
		smallSnapshots(c)
		c.Timeout = 100 * time.Millisecond // no other master could be late
	})
	leaderOf(t, nodes...)
	var tasks sync.WaitGroup // entries at the same time share a sync
	for i := range 30 {
		tasks.Go(func() { create(t, fmt.Sprint("p", i), nodes...) })
	}
	tasks.Wait()
	awaitSnapshot(t, nodes[0], 20)
	nodes[0].stop()
	return nodes[0].cfg
}

func TestLostSnapshotsRefused(t *testing.T) {
	t.Parallel()
	cfg := snapshotted(t)
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "the log begins at entry") ||
		!strings.Contains(err.Error(), "--join") {
		t.Errorf("%v", err)
	}
}

// A master does not start with a snapshot in whose metadata any bit is flipped.
func TestDamagedSnapshotMeta(t *testing.T) {
	t.Parallel()
	cfg := snapshotted(t)
	paths, err := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*", metaFile))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	path := paths[len(paths)-1]
	store := &snapshotStore{dir: filepath.Join(cfg.Dir, "snapshots"), fail: newFailure()}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(whole) {
		data := bytes.Clone(whole)
		data[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := store.checkAll(); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), metaFile) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	if _, err := Open(cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), metaFile) {
		t.Errorf("%v", err)
	}
	// A crash may have come between the snapshot and its checksum.
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := filepath.Join(filepath.Dir(path), sumFile)
	if err := os.Remove(sum); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, cfg)
	if _, err := os.Stat(sum); err != nil {
		t.Error(err)
	}
	create(t, "after", n)
}

// The metadata of a snapshot and its checksum are not read through a symbolic link.
func TestSnapshotMetaIsNoSymbolicLink(t *testing.T) {
	t.Parallel()
	for _, name := range []string{metaFile, sumFile} {
		t.Run(name, func(t *testing.T) {
			cfg := snapshotted(t)
			paths, err := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*", name))
			if err != nil || len(paths) == 0 {
				t.Fatal(paths, err)
			}
			outside := filepath.Join(t.TempDir(), name)
			if err := errors.Join(os.Rename(paths[0], outside), os.Symlink(outside, paths[0])); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(cfg); !errors.Is(err, ErrDisk) || !errors.Is(err, durable.ErrNotFile) {
				t.Errorf("%v", err)
			}
		})
	}
}
