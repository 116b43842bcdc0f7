package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/wire"
)

// secretName is part of the names of projects of these tests.
const secretName = "not-on-a-disk"

// filesWith returns the files of a folder that have a text, relative to it.
func filesWith(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	for path, content := range folderContent(t, dir) {
		if strings.Contains(content, text) {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// plainMaster returns a group of one with a folder in clear. Its names are in segments of the log and in two snapshots.
func plainMaster(t *testing.T) *node {
	t.Helper()
	n := testGroup(t, 1, nil)[0]
	raised(t, n)
	for i := range 12 {
		create(t, fmt.Sprint(secretName, i), n)
		if i == 3 || i == 7 {
			if err := n.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// hasAll checks that a master has the projects of plainMaster.
func hasAll(t *testing.T, n *node) {
	t.Helper()
	create(t, secretName+"-later", n) // a leader has applied its log
	for i := range 12 {
		if name := fmt.Sprint(secretName, i); !n.has(name) {
			t.Errorf("%s is lost", name)
		}
	}
}

// TestEncryptAFolder starts a master with keys on a folder in clear. Before raft uses it, log and snapshots are
// encrypted. Without the key every way to open the folder is refused, names the file and the key, and changes nothing.
// The folder is decrypted again, and opens without keys.
func TestEncryptAFolder(t *testing.T) {
	t.Parallel()
	n := plainMaster(t)
	n.stop()
	files := filesWith(t, n.cfg.Dir, secretName)
	snapshots := slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		return !strings.HasPrefix(name, "snapshots/")
	})
	if len(files) < 3 || len(snapshots) != 2 {
		t.Fatal("nothing to encrypt: ", files)
	}
	if found, err := CountAtRest(n.cfg.Dir); err != nil || found.Plain != len(files) || len(found.Keys) != 0 {
		t.Errorf("%+v, %v, in clear are %v", found, err, files)
	}
	cfg := n.cfg
	cfg.AtRest = atresttest.Ring(t, 1)
	id := cfg.AtRest.Current()
	n = openNode(t, cfg)
	if files := filesWith(t, cfg.Dir, secretName); len(files) > 0 {
		t.Errorf("after the start %v are in clear", files)
	}
	hasAll(t, n)
	if err := n.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	awaitAtRest(t, n, wire.AtRest{Key: id.String()})
	n.stop()
	if files := filesWith(t, cfg.Dir, secretName); len(files) > 0 {
		t.Errorf("after the stop %v are in clear", files)
	}
	found, err := CountAtRest(cfg.Dir)
	if err != nil || found.Plain != 0 || found.Keys[id] != 3 || len(found.Keys) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if got, err := loadIdentity(cfg.Dir); err != nil || got.Version != encryptedAtRest {
		t.Errorf("version %d, %v", got.Version, err)
	}
	checkModes(t, cfg.Dir)
	checkRefused(t, cfg)
	if err := RewriteAtRest(cfg.Dir, nil, cfg.AtRest, nil); err != nil {
		t.Fatal(err)
	}
	if found, err := CountAtRest(cfg.Dir); err != nil || found.Plain < 3 || len(found.Keys) != 0 {
		t.Errorf("decrypted: %+v, %v", found, err)
	}
	if got, err := loadIdentity(cfg.Dir); err != nil || got.Version != logInSegments {
		t.Errorf("version %d, %v", got.Version, err)
	}
	cfg.AtRest = nil
	n = openNode(t, cfg)
	hasAll(t, n)
	if n.AtRest() != nil {
		t.Errorf("without keys %+v", n.AtRest())
	}
}

// TestDamagedOlderSnapshot encrypts, and then decrypts, a folder whose older snapshot is damaged, or has lost its file.
// The newest one is good, so the master does not need it: it is moved aside.
func TestDamagedOlderSnapshot(t *testing.T) {
	t.Parallel()
	older := func(dir string) string {
		ids := snapshotIDs(dir)
		if len(ids) != 2 {
			t.Fatal("the snapshots are ", ids)
		}
		return slices.MinFunc(ids, compareSnapshots)
	}
	for name, damage := range map[string]func(path string) error{
		"flipped byte": func(path string) error { flipByte(t, path, 100); return nil },
		"lost file":    os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			n := plainMaster(t)
			n.stop()
			cfg := n.cfg
			cfg.AtRest = atresttest.Ring(t, 1)
			broken := older(cfg.Dir)
			if err := damage(filepath.Join(snapshotsPath(cfg.Dir), broken, stateFile)); err != nil {
				t.Fatal(err)
			}
			n = openNode(t, cfg)
			hasAll(t, n)
			if _, err := os.Stat(filepath.Join(asidePath(cfg.Dir), broken)); err != nil {
				t.Errorf("it was not moved aside: %v", err)
			}
			if err := n.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			n.stop()
			if err := damage(filepath.Join(snapshotsPath(cfg.Dir), older(cfg.Dir), stateFile)); err != nil {
				t.Fatal(err)
			}
			if err := RewriteAtRest(cfg.Dir, nil, cfg.AtRest, nil); err != nil {
				t.Fatal(err)
			}
			cfg.AtRest = nil
			hasAll(t, openNode(t, cfg))
		})
	}
}

// TestDamagedNewestSnapshot checks that a folder whose newest snapshot is damaged is refused, and that the snapshot
// stays where it is: the log need not have what the older one lacks.
func TestDamagedNewestSnapshot(t *testing.T) {
	t.Parallel()
	n := plainMaster(t)
	n.stop()
	cfg := n.cfg
	cfg.AtRest = atresttest.Ring(t, 1)
	newest := filepath.Join(snapshotsPath(cfg.Dir), slices.MaxFunc(snapshotIDs(cfg.Dir), compareSnapshots), stateFile)
	flipByte(t, newest, 100)
	if s, err := Open(cfg); err == nil || !strings.Contains(err.Error(), filepath.Dir(newest)) {
		if err == nil {
			err = s.Close()
		}
		t.Errorf("it started, or does not name the snapshot: %v", err)
	}
	if _, err := os.Stat(newest); err != nil {
		t.Error(err)
	}
}

// awaitAtRest waits until a master describes its folder in a way.
func awaitAtRest(t *testing.T, n *node, want wire.AtRest) {
	t.Helper()
	for ctx := patience(t); ; time.Sleep(5 * time.Millisecond) {
		if got := n.AtRest(); got != nil && *got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%+v, want %+v", n.AtRest(), want)
		}
	}
}

// checkRefused checks that an encrypted folder is refused without its key.
func checkRefused(t *testing.T, cfg Config) {
	t.Helper()
	before := folderContent(t, cfg.Dir)
	id := cfg.AtRest.Current().String()
	for name, ring := range map[string]*atrest.Ring{"no key": nil, "another key": atresttest.Ring(t, 2)} {
		own := cfg
		own.AtRest = ring
		for what, open := range map[string]func() error{
			"start": func() error {
				s, err := Open(own)
				if err == nil {
					err = s.Close()
				}
				return err
			},
			"recovery": func() error {
				r, err := OpenRecovery(cfg.Dir, false, ring, nil)
				if err == nil {
					err = r.Close()
				}
				return err
			},
			"log to database": func() error {
				_, err := LogToDatabase(cfg.Dir, nil, nil)
				return err
			},
			"decrypt": func() error { return RewriteAtRest(cfg.Dir, nil, ring, nil) },
		} {
			err := open()
			if !errors.Is(err, atrest.ErrNoKey) || errors.Is(err, durable.ErrDamaged) ||
				!strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), cfg.Dir) {
				t.Errorf("%s with %s: %v", what, name, err)
			}
		}
	}
	if after := folderContent(t, cfg.Dir); !maps.Equal(before, after) {
		t.Errorf("the folder was changed: %v", slices.Sorted(maps.Keys(after)))
	}
}

// TestNoKeyOfOneFile lacks the key of one file only, in each of them. That is no damage either: the newest snapshot
// keeps its place, and the log is not given up.
func TestNoKeyOfOneFile(t *testing.T) {
	t.Parallel()
	n := plainMaster(t)
	n.stop()
	cfg := n.cfg
	cfg.AtRest = atresttest.Ring(t, 1)
	openNode(t, cfg).stop()
	whole := filepath.Join(t.TempDir(), "whole")
	copyFolder(t, cfg.Dir, whole)
	// With a second key that encrypts, all files are brought under it.
	cfg.AtRest = atresttest.Ring(t, 2, 1)
	openNode(t, cfg).stop()
	second := atresttest.Ring(t, 2)
	var keyFiles []string
	for path := range folderContent(t, cfg.Dir) {
		if name := filepath.Base(path); name == "keys" || name == "state.key" {
			keyFiles = append(keyFiles, path)
		}
	}
	if len(keyFiles) != 3 {
		t.Fatal(keyFiles)
	}
	for _, path := range keyFiles {
		name, err := filepath.Rel(cfg.Dir, path)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "m")
		copyFolder(t, cfg.Dir, dir)
		old, err := os.ReadFile(filepath.Join(whole, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), old, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		before := folderContent(t, dir)
		own := cfg
		own.Dir, own.AtRest = dir, second
		s, err := Open(own)
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, atrest.ErrNoKey) || !strings.Contains(err.Error(), filepath.Join(dir, name)) ||
			!strings.Contains(err.Error(), atresttest.Ring(t, 1).Current().String()) {
			t.Errorf("%s: %v", name, err)
		}
		if !maps.Equal(before, folderContent(t, dir)) {
			t.Errorf("%s: the folder was changed", name)
		}
	}
}

// TestEncryptKilled ends the encryption of a folder between its steps. The next start has everything, and finishes it.
func TestEncryptKilled(t *testing.T) {
	t.Parallel()
	n := plainMaster(t)
	n.stop()
	ring := atresttest.Ring(t, 1)
	copied := func(f *dataFolder) error {
		first, last, err := f.logs.bounds()
		if err != nil {
			return err
		}
		return logstore.Copy(f.unused(), f.segments, first, last, f.copyOptions())
	}
	marked := func(f *dataFolder) error {
		id := f.identity
		id.Version = encryptedAtRest
		return f.saveIdentity(id)
	}
	log := func(f *dataFolder) string { return logPath(f.dir) }
	closed := func(f *dataFolder) error {
		err := f.segments.Close(true)
		f.segments = nil
		return err
	}
	copySnapshot := func(f *dataFolder, at int) error {
		f.snaps.encrypts = true
		list, err := f.snaps.List()
		if err != nil {
			return err
		}
		return f.snaps.copy(list[at])
	}
	for name, steps := range map[string][]func(*dataFolder) error{
		"marked": {marked},
		"part of a copy": {marked, func(f *dataFolder) error {
			return errors.Join(os.Mkdir(f.unused(), 0o700), os.WriteFile(f.unused()+"/mark", []byte("x"), 0o600))
		}},
		"copied": {marked, copied},
		"one name": {marked, copied, closed, func(f *dataFolder) error {
			return os.Rename(log(f), f.replaced())
		}},
		"both names": {marked, copied, closed, func(f *dataFolder) error {
			return errors.Join(os.Rename(log(f), f.replaced()), os.Rename(f.unused(), log(f)))
		}},
		"half removed": {marked, copied, closed, func(f *dataFolder) error {
			return errors.Join(os.Rename(log(f), f.replaced()), os.Rename(f.unused(), log(f)),
				os.Remove(f.replaced()+"/mark"))
		}},
		"the newest snapshot": {marked, func(f *dataFolder) error { return copySnapshot(f, 0) }},
		"both snapshots": {marked, func(f *dataFolder) error {
			return errors.Join(copySnapshot(f, 0), copySnapshot(f, 2)) // the copy is the second one in the list
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := n.cfg
			cfg.Dir, cfg.AtRest = filepath.Join(t.TempDir(), "m"), ring
			copyFolder(t, n.cfg.Dir, cfg.Dir)
			f := openFolderWith(t, cfg.Dir, ring)
			for _, step := range steps {
				if err := step(f); err != nil {
					t.Fatal(err)
				}
			}
			f.kill(t)
			again := openNode(t, cfg)
			if files := filesWith(t, cfg.Dir, secretName); len(files) > 0 {
				t.Errorf("%v are in clear", files)
			}
			hasAll(t, again)
			list, err := again.snaps.List()
			if err != nil || len(list) != 2 {
				t.Errorf("%d snapshots, %v", len(list), err)
			}
			for _, left := range []string{again.unused(), again.replaced()} {
				if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", left, err)
				}
			}
			again.stop()
		})
	}
}

// TestEncryptWithoutRoom starts a master with keys on a folder in clear whose disk has no room for copies. It works,
// what is new is encrypted, and it says what is in clear until a start finds room.
func TestEncryptWithoutRoom(t *testing.T) {
	t.Parallel()
	n := plainMaster(t)
	n.stop()
	plain := len(filesWith(t, n.cfg.Dir, secretName))
	cfg := n.cfg
	cfg.AtRest, cfg.keysPause = atresttest.Ring(t, 1), 10*time.Millisecond
	var full atomic.Bool
	cfg.Reserved = func(uint64) error {
		if full.Load() {
			return errors.New("the disk is full")
		}
		return nil
	}
	full.Store(true)
	n = openNode(t, cfg)
	if got := len(filesWith(t, cfg.Dir, secretName)); got != plain {
		t.Errorf("%d files are in clear, %d were", got, plain)
	}
	awaitAtRest(t, n, wire.AtRest{Key: cfg.AtRest.Current().String(), Plain: uint64(plain)})
	full.Store(false)
	create(t, "another-name", n)
	if files := filesWith(t, cfg.Dir, "another-name"); len(files) > 0 {
		t.Errorf("%v have a new entry in clear", files)
	}
	n.stop()
	n = openNode(t, cfg)
	hasAll(t, n)
	awaitAtRest(t, n, wire.AtRest{Key: cfg.AtRest.Current().String()})
	if files := filesWith(t, cfg.Dir, secretName); len(files) > 0 {
		t.Errorf("%v are in clear", files)
	}
}

// TestAtRestKeyChanges replaces the key of the operator of a running master, also by a bad file. All files are brought
// under the new key, and the old one is not needed at the next start. A rewrite gives all of them new data keys.
func TestAtRestKeyChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "at-rest.keys")
	atresttest.Write(t, path, 1)
	n := testGroup(t, 1, func(c *Config) {
		c.AtRest, c.keysPause = atresttest.Load(t, path), 5*time.Millisecond
	})[0]
	raised(t, n)
	for i := range 12 {
		create(t, fmt.Sprint(secretName, i), n)
		if i == 5 {
			if err := n.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := byte(1); round <= 3; round++ {
		if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		atresttest.Write(t, path, round+1, round)
		awaitAtRest(t, n, wire.AtRest{Key: atresttest.Ring(t, round+1).Current().String()})
		create(t, fmt.Sprint("round", round), n)
	}
	n.stop()
	cfg := n.cfg
	cfg.AtRest = atresttest.Ring(t, 4)
	n = openNode(t, cfg)
	hasAll(t, n)
	n.stop()
	before := folderContent(t, cfg.Dir)
	if err := RewriteAtRest(cfg.Dir, atresttest.Ring(t, 5, 4), nil, nil); err != nil {
		t.Fatal(err)
	}
	after := folderContent(t, cfg.Dir)
	for path, content := range before {
		if now, ok := after[path]; ok && now == content && (strings.HasSuffix(path, ".wal") ||
			strings.HasSuffix(path, "state.bin")) {
			t.Errorf("%s is as it was", path)
		}
	}
	cfg.AtRest = atresttest.Ring(t, 5)
	n = openNode(t, cfg)
	hasAll(t, n)
	if !n.has("round3") {
		t.Error("a project is lost")
	}
}

// TestEncryptedGroup lets masters with different keys, and one without, send each other entries and snapshots.
func TestEncryptedGroup(t *testing.T) {
	t.Parallel()
	number := byte(0)
	testSnapshots(t, func(c *Config) {
		smallSnapshots(c)
		if number++; number < 3 {
			c.AtRest = atresttest.Ring(t, number)
		}
	})
}

// TestRecoverEncrypted recovers an encrypted folder whose log is damaged. What is written is encrypted too, and the
// data keys of what is moved aside are beside it.
func TestRecoverEncrypted(t *testing.T) {
	t.Parallel()
	keys := atresttest.Ring(t, 1)
	n := testGroup(t, 1, func(c *Config) { c.AtRest = keys })[0]
	n.reload(n.raft.Load(), func(c *raft.ReloadableConfig) { c.TrailingLogs = 1000 })
	for i := range 12 {
		create(t, fmt.Sprint(secretName, i), n)
		if i == 6 {
			if err := n.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := n.Applied()
	n.stop()
	list, err := filepath.Glob(filepath.Join(logPath(n.cfg.Dir), "*.wal"))
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	flipByte(t, list[0], 150)
	if _, err := Open(n.cfg); !errors.Is(err, durable.ErrDamaged) || errors.Is(err, atrest.ErrNoKey) {
		t.Fatal(err)
	}
	r, err := OpenRecovery(n.cfg.Dir, false, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, index := r.Last(); index < last || len(r.Damaged()) != 1 {
		t.Errorf("the last entry is %d, not %d, damaged are %+v", index, last, r.Damaged())
	}
	if err := errors.Join(r.Commit("group-1", 2, n.cfg.Bind), r.Close()); err != nil {
		t.Fatal(err)
	}
	if files := filesWith(t, n.cfg.Dir, secretName); len(files) > 0 {
		t.Errorf("%v are in clear", files)
	}
	if data, err := os.ReadFile(filepath.Join(asidePath(n.cfg.Dir), "keys")); err != nil || len(data) == 0 {
		t.Errorf("the data keys are not beside the damaged segment: %v", err)
	}
	hasAll(t, openNode(t, n.cfg))
	// A new key of the operator is for what was moved aside, too.
	second := atresttest.Ring(t, 2, 1)
	f := &dataFolder{dir: n.cfg.Dir, keys: second, fail: newFailure()}
	if err := f.rewrapAside(); err != nil {
		t.Fatal(err)
	}
	ids, err := logstore.KeyIDs(filepath.Join(asidePath(n.cfg.Dir), "keys"))
	if err != nil || !slices.Equal(ids, []atrest.ID{second.Current()}) {
		t.Errorf("%v, %v", ids, err)
	}
	found, err := CountAtRest(n.cfg.Dir)
	if err != nil || found.Quarantine != 0 || found.Plain != 0 || found.Keys[second.Current()] != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestOlderProgramRefusesEncryption starts a program of an earlier commit on an encrypted folder: it refuses and
// changes no file of it. It opens a decrypted one whose log was moved back.
func TestOlderProgramRefusesEncryption(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds an earlier program")
	}
	program := olderProgram(t)
	n := testGroup(t, 1, func(c *Config) { c.AtRest = atresttest.Ring(t, 1) })[0]
	create(t, secretName, n)
	n.stop()
	before := folderContent(t, n.cfg.Dir)
	if refused := runOlder(t, program, n.cfg); !strings.Contains(refused, "newer version") {
		t.Errorf("it said %q", refused)
	}
	after := folderContent(t, n.cfg.Dir)
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
	if err := RewriteAtRest(n.cfg.Dir, nil, n.cfg.AtRest, nil); err != nil {
		t.Fatal(err)
	}
	if moved, err := LogToDatabase(n.cfg.Dir, nil, nil); !moved || err != nil {
		t.Fatal(moved, err)
	}
	if refused := runOlder(t, program, n.cfg); refused != "" {
		t.Errorf("it refused the decrypted folder: %s", refused)
	}
}
