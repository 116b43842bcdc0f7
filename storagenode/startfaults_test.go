package storagenode

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// TestUnfinishedFolders checks that a folder at the name of an unfinished file does not prevent a start.
func TestUnfinishedFolders(t *testing.T) {
	c, filledCfg := filled(t, 1, 10)
	for _, name := range []string{
		"segments/" + segment.Name(0) + ".new", "segments/x.new", "inbox/.x", "tiles/00.new",
	} {
		cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir)}
		must(t, os.MkdirAll(filepath.Join(cfg.Dir, name, "folder"), 0o700))
		n, err := Open(cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.check(t, n, 10)
		mustClose(t, n)
	}
}

// TestStartWithABadSector checks that a sector that the device cannot read does not prevent a start, wherever it is
// among the blocks, and that no block is dropped because of it.
func TestStartWithABadSector(t *testing.T) {
	const height = 30
	_, filledCfg := filled(t, 1, height)
	for name, c := range map[string]struct {
		block  uint64 // in whose segment it is
		header bool
	}{
		"the header of the first segment": {0, true},
		"the header of the last segment":  {height - 1, true},
		"a block":                         {5, false},
		"the last block":                  {height - 1, false},
	} {
		for _, unclean := range []bool{false, true} {
			cfg := Config{AtRest: testKeys, Dir: copyDir(t, filledCfg.Dir)}
			n := mustOpen(t, cfg)
			path, p := segmentOf(t, n, c.block)
			if unclean {
				crash(t, n)
			} else {
				mustClose(t, n)
			}
			info, err := os.Stat(path)
			must(t, err)
			bad := &badSector{inode: inode(info), from: p.End() - 1, to: p.End()}
			if c.header {
				bad.from, bad.to = 0, 4
			}
			var disk badSectors
			disk.Store(bad)
			cfg.open = disk.open
			if n, err = Open(cfg); err != nil {
				t.Errorf("%s, unclean %v: %v", name, unclean, err)
				continue
			}
			if got := n.Status().Height; got != height {
				t.Errorf("%s, unclean %v: height %d", name, unclean, got)
			}
			mustClose(t, n)
		}
	}
}

// TestStartWithoutRoom checks that a node with a full disk starts, although it cannot write its inbox again.
// It does not report that block.
func TestStartWithoutRoom(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 9)
	cfg := Config{AtRest: testKeys, Dir: memDir(t)}
	n := mustOpen(t, cfg)
	for i := range 4 {
		if _, err := n.Put(t.Context(), uint64(i), c.blocks[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.PutInbox(t.Context(), 7, c.blocks[7].Bytes()); err != nil {
		t.Fatal(err)
	}
	crash(t, n)
	full := true
	cfg.writeFile = func(path string, data []byte, mode os.FileMode) error {
		if full && strings.Contains(path, "/inbox/") {
			return durable.Unchanged(&os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC})
		}
		return durable.WriteFile(path, data, mode)
	}
	n = mustOpen(t, cfg)
	c.check(t, n, 4)
	if status := n.Status(); status.Inbox.Len() > 0 {
		t.Errorf("inbox %v", status.Inbox)
	}
	full = false
	if status, err := n.PutInbox(t.Context(), 7, c.blocks[7].Bytes()); err != nil || status.Inbox.From != 7 {
		t.Errorf("%+v, %v", status, err)
	}
	c.putAll(t, n)
	c.check(t, n, 9)
}

// copyOnWrite has no room for any write to files whose path contains a text, even for one over bytes that are there.
type copyOnWrite struct {
	name string
	full atomic.Bool
}

func (d *copyOnWrite) open(path string, flag int) (segment.File, error) {
	f, err := segment.OpenFile(path, flag)
	if err != nil || !strings.Contains(path, d.name) {
		return f, err
	}
	return &copyOnWriteFile{f, d}, nil
}

type copyOnWriteFile struct {
	segment.File
	disk *copyOnWrite
}

func (f *copyOnWriteFile) WriteAt(data []byte, at int64) (int, error) {
	if f.disk.full.Load() {
		return 0, &os.PathError{Op: "write", Path: f.disk.name, Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(data, at)
}

// TestUncleanStartWithoutRoom checks that a start that has no room to write again what may not be synced, as on a file
// system that copies on write, serves and reports what is synced, and takes no block. It reports the rest, and goes on,
// when it is written again: when there is room, or at the next start.
func TestUncleanStartWithoutRoom(t *testing.T) {
	const height = 24
	c, base := behindSynced(t, 76, height)
	must(t, os.WriteFile(filepath.Join(base.Dir, "running"), nil, 0o600))
	c.growTo(t, height+2)
	synced, err := folder.Dir(base.Dir).ReadSynced()
	must(t, err)
	if synced.Height >= height {
		t.Fatal("the test needs blocks behind the synced ones")
	}
	for _, name := range []string{"/segments/", "/tiles/"} {
		for _, restart := range []bool{false, true} {
			disk := copyOnWrite{name: name}
			disk.full.Store(true)
			room := func() error {
				if disk.full.Load() {
					return wire.ErrNoSpace
				}
				return nil
			}
			cfg := Config{
				AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes, open: disk.open,
				Room: room, unblockPause: time.Hour,
			}
			n := mustOpen(t, cfg)
			last, _ := segmentOf(t, n, height-1)
			before, err := os.Stat(last)
			must(t, err)
			served := n.Status().Height
			if served != synced.Height {
				t.Fatalf("%s: height %d", name, served)
			}
			for number := range served {
				c.checkBlock(t, n, number, false)
			}
			if _, err := n.Put(t.Context(), served, c.blocks[served].Bytes()); !errors.Is(err, wire.ErrNoSpace) {
				t.Errorf("%s: Put: %v", name, err)
			}
			if blocked, err := n.unblock(t.Context()); !blocked || err != nil {
				t.Errorf("%s: %v, %v", name, blocked, err)
			}
			disk.full.Store(false)
			if restart {
				mustClose(t, n)
				n = mustOpen(t, cfg)
			} else if blocked, err := n.unblock(t.Context()); blocked || err != nil {
				t.Fatalf("%s: with room: %v, %v", name, blocked, err)
			}
			if n.Status().Height != height {
				t.Fatalf("%s, restart %v: height %d", name, restart, n.Status().Height)
			}
			if after, err := os.Stat(last); err != nil || os.SameFile(before, after) {
				t.Errorf("%s, restart %v: the last segment was not written again, %v", name, restart, err)
			}
			c.putAll(t, n)
			c.clean(t, n, height+2)
			mustClose(t, n)
			verified(t, cfg.Dir, c, height+2)
		}
	}
}

// TestTornTailWithoutRoom checks that a node with a full disk starts, although it cannot keep a copy of a block that
// was cut short.
func TestTornTailWithoutRoom(t *testing.T) {
	for _, height := range []int{0, 9} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
			t.Logf("NO full disk: %v", err)
			return
		}
		t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		c := newTestChain(1)
		c.growTo(t, height)
		cfg := Config{AtRest: testKeys, Dir: filepath.Join(dir, "data")}
		n := mustOpen(t, cfg)
		c.putAll(t, n)
		if height == 0 {
			n.mu.Lock()
			must(t, n.makeRoom(0))
			n.mu.Unlock()
		}
		must(t, durable.KeepReserve(cfg.Dir))
		crash(t, n)
		f, err := os.OpenFile(n.segmentPath(0), os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write(make([]byte, 3<<20))
		must(t, err)
		must(t, f.Close())
		f, err = os.Create(filepath.Join(dir, "other"))
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		must(t, f.Close())
		n = mustOpen(t, cfg)
		c.check(t, n, height)
		must(t, os.Remove(filepath.Join(dir, "other")))
		c.growTo(t, 15)
		c.putAll(t, n)
		c.clean(t, n, 15)
		mustClose(t, n)
		verified(t, cfg.Dir, c, 15)
		must(t, os.Remove(filepath.Join(cfg.Dir, "index")))
		n = mustOpen(t, cfg)
		c.clean(t, n, 15)
		c.check(t, n, 15)
		mustClose(t, n)
		verified(t, cfg.Dir, c, 15)
	}
}

// TestSegmentsOnAnotherDisk checks that what is moved aside from segments/ does not cross to another disk.
func TestSegmentsOnAnotherDisk(t *testing.T) {
	const height = 30
	for name, run := range map[string]func(*testing.T, *testChain, Config, string){
		"a folder at a start": func(t *testing.T, _ *testChain, cfg Config, segments string) {
			must(t, os.MkdirAll(filepath.Join(segments, segment.Name(7000), "folder"), 0o700))
			mustClose(t, mustOpen(t, cfg))
		},
		"a folder at a check": func(t *testing.T, c *testChain, cfg Config, _ string) {
			n := mustOpen(t, cfg)
			path, _ := segmentOf(t, n, 5)
			must(t, os.Remove(path))
			must(t, os.MkdirAll(filepath.Join(path, "folder"), 0o700))
			c.repairAll(t, c.source(t), n, height, c.checked(t, n, height).Bad)
		},
		"a segment that is cut short": func(t *testing.T, c *testChain, cfg Config, _ string) {
			n := mustOpen(t, cfg)
			path, p := segmentOf(t, n, 5)
			short(t, path, p.Offset+10)
			c.repairAll(t, c.source(t), n, height, c.checked(t, n, height).Bad)
		},
		"a repair of another chain": func(t *testing.T, c *testChain, cfg Config, _ string) {
			c.repair(t, c.source(t), mustOpen(t, cfg), 3, chain.Range{From: 3, To: height})
		},
		"a bad sector after an unclean stop": func(t *testing.T, _ *testChain, cfg Config, _ string) {
			n := mustOpen(t, cfg)
			path, p := segmentOf(t, n, height-2)
			crash(t, n)
			info, err := os.Stat(path)
			must(t, err)
			var disk badSectors
			disk.Store(&badSector{inode(info), p.End() - 1, p.End()})
			cfg.open = disk.open
			mustClose(t, mustOpen(t, cfg))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, cfg := filled(t, 1, height) // in memory, if the system has such a disk
			elsewhere := filepath.Join(t.TempDir(), "segments")
			segments := filepath.Join(cfg.Dir, "segments")
			must(t, os.CopyFS(elsewhere, os.DirFS(segments)))
			must(t, os.RemoveAll(segments))
			must(t, os.Symlink(elsewhere, segments))
			run(t, c, cfg, elsewhere)
			if list, err := os.ReadDir(filepath.Join(cfg.Dir, "quarantine")); err != nil {
				t.Error(err)
			} else if beside, _ := os.ReadDir(filepath.Join(elsewhere, "quarantine")); len(list)+len(beside) == 0 {
				t.Error("nothing was kept")
			}
		})
	}
}

// fullSync fails the syncs of segments for want of room, while there is a reserve.
type fullSync struct {
	segment.File
	reserve string
}

func (f *fullSync) Sync() error {
	if _, err := os.Stat(f.reserve); err == nil {
		return &os.PathError{Op: "sync", Path: "segment", Err: syscall.ENOSPC}
	}
	return f.File.Sync()
}

// TestFailedSyncOfAStart checks that a start whose sync failed because the disk is full is not tried again with the
// room of the reserve: the sync failed nevertheless.
func TestFailedSyncOfAStart(t *testing.T) {
	_, cfg := filled(t, 1, 10)
	must(t, durable.KeepReserve(cfg.Dir))
	crash(t, mustOpen(t, cfg))
	reserve := filepath.Join(cfg.Dir, "reserve")
	cfg.open = func(path string, flag int) (segment.File, error) {
		f, err := segment.OpenFile(path, flag)
		if err != nil || !strings.Contains(path, ".seg") {
			return f, err
		}
		return &fullSync{f, reserve}, nil
	}
	if n, err := Open(cfg); !durable.IsSync(err) {
		t.Errorf("%v", err)
		if err == nil {
			mustClose(t, n)
		}
	}
}

// TestRepairOfASegmentThatCannotBeOpened checks that it fails and does not stop the node, and that it succeeds once the
// system opens the file.
func TestRepairOfASegmentThatCannotBeOpened(t *testing.T) {
	const height, bad = 30, 5
	c, cfg := filled(t, 1, height)
	path, closed := "", atomic.Bool{}
	cfg.open = func(p string, flag int) (segment.File, error) {
		if closed.Load() && p == path {
			return nil, &os.PathError{Op: "open", Path: p, Err: syscall.EACCES}
		}
		return segment.OpenFile(p, flag)
	}
	n := mustOpen(t, cfg)
	var p blockindex.Place
	path, p = segmentOf(t, n, bad)
	flip(t, path, p.End()-1)
	r := chain.Range{From: bad, To: bad + 1}
	order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: c.pieces(r)}
	stream := streamOf(t, c.source(t), order.Pieces)
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	closed.Store(true)
	if err := n.Take(t.Context(), "t", bytes.NewReader(stream)); !errors.Is(err, ErrCannotRead) {
		t.Errorf("%v", err)
	}
	closed.Store(false)
	if err := n.Take(t.Context(), "t", bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	c.clean(t, n, height)
}

// TestTemporaryFilesAreRemoved checks that a start removes the temporary files of a process that was killed.
func TestTemporaryFilesAreRemoved(t *testing.T) {
	c, cfg := filled(t, 1, 10)
	var left []string
	for _, name := range []string{
		".identity.json.tmp-1", ".reserve.tmp-22", "tiles/.synced.tmp-3", "records/.1.run.tmp-4",
		"inbox/.5.block.tmp-5", "quarantine/.x-from-7.tmp-6",
	} {
		left = append(left, filepath.Join(cfg.Dir, name))
		must(t, os.WriteFile(filepath.Join(cfg.Dir, name), []byte("half"), 0o600))
	}
	other := filepath.Join(cfg.Dir, ".notes.tmp-old")
	must(t, os.WriteFile(other, nil, 0o600))
	n := mustOpen(t, cfg)
	for _, path := range left {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if _, err := os.Lstat(other); err != nil {
		t.Error(err)
	}
	c.clean(t, n, 10)
	mustClose(t, n)
}

// TestKilledOnAFullDisk fills the disk of a node, kills it and starts it again. It serves every block that it
// acknowledged, refuses more, and takes blocks again without another start once there is room.
func TestKilledOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Logf("NO full disk: %v", err)
		return
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	c := newTestChain(1)
	cfg := Config{AtRest: testKeys, Dir: filepath.Join(dir, "data"), SegmentBytes: 400_000}
	n := mustOpen(t, cfg)
	var err error
	for err == nil {
		block := c.grow(t, 3, 40_000)
		_, err = n.Put(t.Context(), uint64(len(c.blocks)-1), block)
	}
	full, height := err, len(c.blocks)-1
	if !errors.Is(full, wire.ErrNoSpace) {
		t.Fatal(full)
	}
	crash(t, n)
	rest, err := os.Create(filepath.Join(dir, "rest")) // what the writer cut off
	must(t, err)
	for err == nil {
		_, err = rest.Write(make([]byte, 512))
	}
	must(t, rest.Close())
	n = mustOpen(t, cfg)
	c.check(t, n, height)
	if _, err := n.Put(t.Context(), uint64(height), c.blocks[height].Bytes()); !errors.Is(err, wire.ErrNoSpace) {
		t.Errorf("Put without room: %v", err)
	}
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=8m"))
	c.putAll(t, n)
	c.clean(t, n, len(c.blocks))
	mustClose(t, n)
	verified(t, cfg.Dir, c, len(c.blocks))
}
