package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// refusing fails the opens, or all reads, of one file. A file that replaces it is good.
type refusing struct {
	path  string
	inode uint64
	errno syscall.Errno
	reads bool // the opens succeed

	mu    sync.Mutex
	tries int // opens or reads before the first that fails
	hit   bool
}

func (r *refusing) fails(op string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tries--; r.tries >= 0 {
		return nil
	}
	r.hit = true
	return &os.PathError{Op: op, Path: r.path, Err: r.errno}
}

func refuse(t *testing.T, path string, errno syscall.Errno) *refusing {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return &refusing{path: path, inode: inode(info), errno: errno}
}

func (r *refusing) open(path string, flag int) (segment.File, error) {
	info, err := os.Stat(path)
	same := err == nil && inode(info) == r.inode
	if same && !r.reads {
		if err := r.fails("open"); err != nil {
			return nil, err
		}
	}
	f, err := segment.OpenFile(path, flag)
	if err != nil || !same || !r.reads {
		return f, err
	}
	return &refusingFile{f, r}, nil
}

type refusingFile struct {
	segment.File
	by *refusing
}

func (f *refusingFile) ReadAt(data []byte, at int64) (int, error) {
	if err := f.by.fails("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(data, at)
}

// bytesOf returns the content of all files below a folder that hold blocks or what is computed from them.
func bytesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"segments/*", "tiles/*", "index", "inbox/*"} {
		list, err := filepath.Glob(filepath.Join(dir, pattern))
		must(t, err)
		for _, path := range list {
			data, err := os.ReadFile(path)
			must(t, err)
			files[strings.TrimPrefix(path, dir)] = string(data)
		}
	}
	return files
}

// behindSynced is a folder with blocks behind the synced head, and without the mark of an unclean stop: the start must
// verify those blocks.
func behindSynced(t *testing.T, seed uint64, height int) (*testChain, Config) {
	t.Helper()
	c, cfg := filled(t, seed, height/2)
	c.growTo(t, height)
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	crash(t, n)
	remove(t, cfg.Dir, "running")
	return c, cfg
}

// TestStartThatCannotRead fails opens and reads of segments and tiles while a node starts. What fails for the whole
// process ends the start, which changes no block. What fails for one file does not prevent the start; nothing is lost,
// and no block is called damaged. The next start has everything.
func TestStartThatCannotRead(t *testing.T) {
	const height = 24
	errnos, most := []syscall.Errno{syscall.EMFILE, syscall.EIO, syscall.ENOMEM, syscall.EACCES}, 12
	c, base := behindSynced(t, 71, height)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes})
	first, _ := segmentOf(t, n, 1)
	behind, _ := segmentOf(t, n, height*3/4)
	last, _ := segmentOf(t, n, height-1)
	mustClose(t, n)
	names := []string{filepath.Base(last), "00", filepath.Base(first), filepath.Base(behind), "04"}
	if testing.Short() {
		errnos, names, most = errnos[:2], names[:2], 3
	}
	for _, name := range names {
		folder := "segments"
		if !strings.HasSuffix(name, ".seg") {
			folder = "tiles"
		}
		for _, errno := range errnos {
			for _, reads := range []bool{false, true} {
				for tries, hit := 0, true; hit && tries < most; tries++ {
					cfg := Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes}
					bad := refuse(t, filepath.Join(cfg.Dir, folder, name), errno)
					bad.reads, bad.tries = reads, tries
					cfg.open = bad.open
					before := bytesOf(t, cfg.Dir)
					n, err := Open(cfg)
					bad.mu.Lock()
					hit = bad.hit
					bad.mu.Unlock()
					what := func() string { return fmt.Sprintf("%s, %v, reads %v", name, errno, reads) }
					one := errno == syscall.EIO || errno == syscall.EACCES
					switch {
					case err == nil:
						if hit && !one && n.Status().Height != height {
							t.Errorf("%s after %d: it starts with height %d", what(), tries, n.Status().Height)
						}
						if errors.Is(n.blocked, ErrDamaged) {
							t.Errorf("%s after %d: %v", what(), tries, n.blocked)
						}
						crash(t, n)
					case one:
						t.Errorf("%s after %d: %v", what(), tries, err)
					case !errors.Is(err, errno):
						t.Errorf("%s after %d: another error: %v", what(), tries, err)
					}
					for path, data := range bytesOf(t, cfg.Dir) {
						if old := before[path]; !strings.Contains(path, "synced") && len(data) < len(old) {
							t.Errorf("%s after %d: %s has %d bytes of %d", what(), tries, path, len(data), len(old))
						}
					}
					cfg.open = nil
					n = mustOpen(t, cfg)
					c.check(t, n, height)
					mustClose(t, n)
				}
			}
		}
	}
}

// TestStartWithAnUnreadBlock checks that a node whose last blocks cannot be read serves the others, says that it cannot
// read, and gets the blocks from a repair.
func TestStartWithAnUnreadBlock(t *testing.T) {
	const height = 24
	c, cfg := behindSynced(t, 72, height)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: copyDir(t, cfg.Dir), SegmentBytes: cfg.SegmentBytes})
	last, _ := segmentOf(t, n, height-1)
	_, from, _ := n.index.Get(height - 1)
	mustClose(t, n)
	bad := refuse(t, filepath.Join(cfg.Dir, "segments", filepath.Base(last)), syscall.EIO)
	bad.reads = true
	cfg.open = bad.open
	n = mustOpen(t, cfg)
	if got := n.Status().Height; got != from {
		t.Fatalf("height %d, want %d", got, from)
	}
	for number := range from {
		c.checkBlock(t, n, number, false)
	}
	if got := n.Read([]wire.Place{{Block: height - 1}}, 0, nil)[0].Status; got != wire.ReadFailed {
		t.Errorf("a record of an unread block: status %d", got)
	}
	_, err := n.Put(t.Context(), from, c.blocks[from].Bytes())
	if !errors.Is(err, ErrCannotRead) || errors.Is(err, ErrDamaged) {
		t.Errorf("Put: %v", err)
	}
	r := chain.Range{From: from, To: height}
	order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: c.pieces(r)}
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	if err := n.Take(t.Context(), "t", bytes.NewReader(streamOf(t, c.source(t), order.Pieces))); err != nil {
		t.Fatal(err)
	}
	c.clean(t, n, height)
	mustClose(t, n)
}

// obeyModes makes the modes of files count for the calling goroutine, even if it runs as root.
func obeyModes(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and the thread ends with the goroutine
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&header, &data[0]))
	data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	must(t, unix.Capset(&header, &data[0]))
}

// TestStartWithUnreadableFiles takes away the right to read files that are written again from the blocks, or by the
// next check. The node starts, and keeps what it could not read.
func TestStartWithUnreadableFiles(t *testing.T) {
	const height = 24
	c, base := filled(t, 73, height)
	obeyModes(t)
	for _, name := range []string{"index", "tiles/synced", "lost", "running", "records"} {
		cfg := Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes}
		n := mustOpen(t, cfg)
		n.indexer.await(t.Context(), c.statusAt(height).Size)
		mustClose(t, n)
		path := filepath.Join(cfg.Dir, name)
		if name == "records" {
			runs, err := filepath.Glob(filepath.Join(path, "*.run"))
			must(t, err)
			path = runs[0]
		}
		if _, err := os.Stat(path); err != nil {
			must(t, os.WriteFile(path, make([]byte, 20), 0o600))
		}
		must(t, os.Chmod(path, 0))
		n, err := Open(cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.check(t, n, height)
		c.clean(t, n, height)
		n.indexer.await(t.Context(), c.statusAt(height).Size)
		if !n.Unclean() {
			t.Errorf("%s: no check is due", name)
		}
		mustClose(t, n)
		_ = os.Chmod(path, 0o600) // it may have been moved
		verified(t, cfg.Dir, c, height)
	}
}

// TestBlockedNodeGoesOn checks that a node that a block keeps from going on does so when the device can read the block
// again, or when a good copy was put back, without a restart and without a repair.
func TestBlockedNodeGoesOn(t *testing.T) {
	const height = 24
	c, base := behindSynced(t, 74, height)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes})
	last, _ := segmentOf(t, n, height-1)
	middle, p := segmentOf(t, n, height/2+2)
	mustClose(t, n)
	c.growTo(t, height+2)
	source := c.source(t)
	last, middle = filepath.Base(last), filepath.Base(middle)
	var reads failingReads
	var opens unopenable
	for _, row := range []struct {
		name    string
		damage  func(t *testing.T, path string, cfg *Config)
		recover func(t *testing.T, path string)
		repair  bool // one is open, and has received a block
	}{
		{"reads fail", func(_ *testing.T, path string, cfg *Config) {
			reads.name, cfg.open = path, reads.open
			reads.on.Store(true)
		}, func(*testing.T, string) { reads.on.Store(false) }, false},
		{"reads fail, and a repair is open", func(_ *testing.T, path string, cfg *Config) {
			reads.name, cfg.open = path, reads.open
			reads.on.Store(true)
		}, func(*testing.T, string) { reads.on.Store(false) }, true},
		{"opens fail, and the index is missing", func(t *testing.T, path string, cfg *Config) {
			remove(t, cfg.Dir, "index")
			info, err := os.Stat(path)
			must(t, err)
			cfg.open = opens.open
			opens.Store(&unopenableFile{inode(info), syscall.EACCES})
		}, func(*testing.T, string) { opens.Store(nil) }, false},
		{"a damaged block is put back", func(t *testing.T, path string, cfg *Config) {
			remove(t, cfg.Dir, "tiles") // else they prove the tree behind the block
			flip(t, filepath.Join(filepath.Dir(path), middle), p.End()-1)
		}, func(t *testing.T, path string) {
			path = filepath.Join(filepath.Dir(path), middle)
			data, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path+".copy", data, 0o600)) // another file, as from a backup
			flip(t, path+".copy", p.End()-1)
			must(t, os.Rename(path+".copy", path))
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := Config{
				AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes,
				unblockPause: time.Hour,
			}
			path := filepath.Join(cfg.Dir, "segments", last)
			row.damage(t, path, &cfg)
			n := mustOpen(t, cfg)
			before := n.Status()
			if before.Height >= height || n.blocked == nil {
				t.Fatalf("height %d, %v", before.Height, n.blocked)
			}
			if blocked, err := n.unblock(t.Context()); !blocked || err != nil || n.Status() != before {
				t.Errorf("it cannot be read: %v, %v, %+v", blocked, err, n.Status())
			}
			if row.repair {
				from := segmentSpan(t, n, 0)
				order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: c.pieces(from, chain.Range{
					From: before.Height, To: height})}
				_, err := n.Receive(t.Context(), order)
				must(t, err)
				stream := streamOf(t, source, order.Pieces[:1])
				if err := n.Take(t.Context(), "t", bytes.NewReader(stream[:len(stream)-1])); err == nil {
					t.Error("half a transfer")
				}
			}
			row.recover(t, path)
			if blocked, err := n.unblock(t.Context()); blocked || err != nil || n.Status().Height != height {
				t.Fatalf("it can be read: %v, %v, height %d", blocked, err, n.Status().Height)
			}
			c.putAll(t, n)
			c.clean(t, n, height+2)
			mustClose(t, n)
			verified(t, cfg.Dir, c, height+2)
		})
	}
	// The node tries by itself.
	cfg := Config{
		AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes,
		unblockPause: time.Millisecond,
	}
	reads.name, cfg.open = filepath.Join(cfg.Dir, "segments", last), reads.open
	reads.on.Store(true)
	n = mustOpen(t, cfg)
	reads.on.Store(false)
	for deadline := time.Now().Add(time.Minute); n.Status().Height < height; {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on by itself")
		}
		runtime.Gosched()
	}
	mustClose(t, n)
}

// TestBlockedAfterAnUncleanStop checks that what an unclean start could not see is written again and synced before the
// node reports it: when it can be opened again, and by the next start.
func TestBlockedAfterAnUncleanStop(t *testing.T) {
	const height = 24
	c, base := behindSynced(t, 75, height)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes})
	unread, _ := segmentOf(t, n, height/2-1) // some of its blocks are synced
	behind, _ := segmentOf(t, n, height*3/4)
	last, _ := segmentOf(t, n, height-1)
	mustClose(t, n)
	if unread == behind || behind == last {
		t.Fatal("the test needs three segments")
	}
	for _, restart := range []bool{false, true} {
		cfg := Config{
			AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes,
			unblockPause: time.Hour,
		}
		must(t, os.WriteFile(filepath.Join(cfg.Dir, "running"), nil, 0o600))
		remove(t, cfg.Dir, "index")
		path := func(of string) string { return filepath.Join(cfg.Dir, "segments", filepath.Base(of)) }
		info, err := os.Stat(path(unread))
		must(t, err)
		before, err := os.Stat(path(behind))
		must(t, err)
		var opens unopenable
		opens.Store(&unopenableFile{inode(info), syscall.EACCES})
		cfg.open = opens.open
		n := mustOpen(t, cfg)
		opens.Store(nil)
		if restart {
			mustClose(t, n)
			n = mustOpen(t, cfg)
		} else if blocked, err := n.unblock(t.Context()); blocked || err != nil {
			t.Fatalf("%v, %v", blocked, err)
		}
		if n.Status().Height != height {
			t.Fatalf("restart %v: height %d", restart, n.Status().Height)
		}
		after, err := os.Stat(path(behind))
		must(t, err)
		if os.SameFile(before, after) {
			t.Errorf("restart %v: the segment was not written again", restart)
		}
		c.clean(t, n, height)
		mustClose(t, n)
	}
}
