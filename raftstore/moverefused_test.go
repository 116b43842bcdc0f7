package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// TestDamagedVotesAreNotMoved starts a master whose log is to be moved, with a damaged term, a damaged vote, a vote
// under another name, and a raft.db of an earlier term than the snapshots. It refuses, and nothing is moved.
func TestDamagedVotesAreNotMoved(t *testing.T) {
	t.Parallel()
	n := databaseNode(t)
	awaitSnapshot(t, n, 20)
	raised(t, n)
	n.stop()
	for _, c := range []struct {
		name string
		harm func(t *testing.T, cfg Config)
	}{
		{"term", func(t *testing.T, cfg Config) { flipValue(t, cfg.Dir, keyTerm) }},
		{"vote", func(t *testing.T, cfg Config) { flipValue(t, cfg.Dir, keyVote) }},
		{"name of the vote", func(t *testing.T, cfg Config) {
			alterFile(t, databasePath(cfg.Dir), []byte(keyVote+"\x00"), []byte("Voue\x00"))
		}},
		{"earlier term", func(t *testing.T, cfg Config) {
			f := openFolder(t, cfg.Dir)
			defer f.kill(t)
			if err := f.votes.SetUint64([]byte(keyTerm), 0); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := n.cfg
			cfg.Dir = filepath.Join(t.TempDir(), "m")
			copyFolder(t, n.cfg.Dir, cfg.Dir)
			c.harm(t, cfg)
			before := folderContent(t, cfg.Dir)
			s, err := Open(cfg)
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), databasePath(cfg.Dir)) ||
				!strings.Contains(err.Error(), "--join") {
				t.Errorf("%v", err)
			}
			after := folderContent(t, cfg.Dir)
			for path, content := range before {
				// Package bbolt writes a new meta page when it opens the file.
				if after[path] != content && path != databasePath(cfg.Dir) {
					t.Errorf("%s has changed", path)
				}
			}
			if len(after) != len(before) {
				t.Errorf("the folder has %v, had %v", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
			}
			if id, err := loadIdentity(cfg.Dir); err != nil || id.Version != logInDatabase {
				t.Errorf("version %d, %v", id.Version, err)
			}
		})
	}
}

// flipValue flips a bit of a value in raft.db, wherever a page has it.
func flipValue(t *testing.T, dir, key string) {
	t.Helper()
	bolt, err := raftconfig.OpenLog(databasePath(dir))
	if err != nil {
		t.Fatal(err)
	}
	value, err := bolt.Get([]byte(key))
	if err := errors.Join(err, bolt.Close()); err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(value)
	other[len(other)-5] ^= 1
	alterFile(t, databasePath(dir), append([]byte(key), value...), append([]byte(key), other...))
}

// alterFile replaces bytes of a file everywhere.
func alterFile(t *testing.T, path string, from, to []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(from) != len(to) || !bytes.Contains(data, from) {
		t.Fatalf("%s does not have %x", path, from)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, from, to), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNewerDatabaseAfterAMove puts a raft.db with the log back after an empty log was moved. An empty raft.db is not
// moved. The start is refused, and the file stays as it is.
func TestNewerDatabaseAfterAMove(t *testing.T) {
	t.Parallel()
	n := databaseNode(t)
	raised(t, n)
	for n.stop(); snapshotHasAll(t, n.cfg.Dir); n.stop() {
		n = openDatabase(t, n.cfg)
		create(t, "one more", n)
	}
	path := filepath.Join(n.cfg.Dir, "raft.db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		data []byte
		why  string
	}{{nil, "it is new or empty"}, {whole, "put back after its log was moved"},
		{whole, "put back after its log was moved"}} {
		if err := os.WriteFile(path, step.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			moveEmpty(t, n.cfg.Dir)
			if err := os.WriteFile(path, step.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(n.cfg)
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), step.why) {
			t.Errorf("%d bytes: %v", len(step.data), err)
		}
	}
	bolt, err := raftconfig.OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if last, err := bolt.LastIndex(); err != nil || last == 0 || last > 1<<60 {
		t.Errorf("raft.db ends at %d, %v", last, err)
	}
	if err := bolt.Close(); err != nil {
		t.Fatal(err)
	}
}

// snapshotHasAll reports whether the newest snapshot of a folder has the last entry of its log.
func snapshotHasAll(t *testing.T, dir string) bool {
	t.Helper()
	f := openFolder(t, dir)
	defer f.kill(t)
	last, err := f.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return f.snaps.newest().index >= last
}

// openDatabase starts a master as a program does that does not move its log.
func openDatabase(t *testing.T, cfg Config) *node {
	t.Helper()
	lowerLevel(t, cfg)
	return openNode(t, cfg)
}

// lowerLevel lowers the level in master.json. The state has it too, but the log is moved before that is read.
func lowerLevel(t *testing.T, cfg Config) {
	t.Helper()
	id, err := loadIdentity(cfg.Dir)
	if err == nil {
		id.Level = masterfsm.LevelSegments - 1
		err = id.save(cfg.Dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// moveEmpty moves an empty log, as a version did that did not check term and vote first.
func moveEmpty(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "raft.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := openFolder(t, dir)
	defer f.kill(t)
	for _, step := range f.moveSteps() {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}
