package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
)

var errDisk = errors.New("the disk said no")

// faultyDisk counts the operations on the files of a log, and fails one. It knows what a power cut leaves: of each file
// the content at the last sync that succeeded. A sync that fails drops what it covered, and no later one writes it.
type faultyDisk struct {
	dir    string
	failAt int  // the operation that fails, counted from 1; 0 for none
	done   bool // it is carried out and reports a failure all the same

	mu     sync.Mutex
	count  int
	hit    string            // what failed
	device map[string][]byte // by name
	sick   map[string]bool   // files with a failed sync
}

func newFaultyDisk(t *testing.T, dir string, failAt int, done bool) *faultyDisk {
	t.Helper()
	d := &faultyDisk{dir: dir, failAt: failAt, done: done, device: map[string][]byte{}, sick: map[string]bool{}}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil {
			d.device[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *faultyDisk) do(operation, path string, do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	name, fails := filepath.Base(path), d.count == d.failAt
	if fails {
		d.hit = operation + " " + name
	}
	if fails && !d.done {
		d.sick[name] = d.sick[name] || operation == "sync"
		return &os.PathError{Op: operation, Path: path, Err: errDisk}
	}
	if err := do(); err != nil {
		return err
	}
	switch operation {
	case "sync", "replace", "create":
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !d.sick[name] {
			d.device[name] = data
		}
	case "delete":
		delete(d.device, name)
	}
	if fails {
		return &os.PathError{Op: operation, Path: path, Err: errDisk}
	}
	return nil
}

// cut writes the folder as a power cut leaves it. Files whose name contains kept have what processes see as well.
func (d *faultyDisk) cut(t *testing.T, kept func(name string) bool) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := os.MkdirTemp("/dev/shm", "logstore-*")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dir = filepath.Join(dir, "log")
	err = os.Mkdir(dir, 0o700)
	for name, data := range d.device {
		if seen, readErr := os.ReadFile(filepath.Join(d.dir, name)); readErr == nil && kept(name) {
			data = seen
		}
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// change is an operation on a log, and what it makes of its content.
type change struct {
	name string
	do   func(l *Log) error
	want func(log *raft.InmemStore) error
}

// changes are appends, some of which begin a segment, cuts of the end, trims, and what the installation of a snapshot
// does.
func changes() (list []change) {
	rng := rand.New(rand.NewPCG(9, 9))
	next, first := uint64(1), uint64(1)
	add := func(term uint64, count int) {
		var logs []*raft.Log
		for range count {
			logs = append(logs, entryOf(next, term, rng.IntN(300)))
			next++
		}
		list = append(list, change{fmt.Sprint("append to ", next-1),
			func(l *Log) error { return l.StoreLogs(logs) },
			func(m *raft.InmemStore) error { return m.StoreLogs(logs) }})
	}
	remove := func(low, high uint64) {
		list = append(list, change{fmt.Sprint("delete ", low, " to ", high),
			func(l *Log) error { return l.DeleteRange(low, high) },
			func(m *raft.InmemStore) error { return m.DeleteRange(low, high) }})
		if high == next-1 {
			next = low
		} else {
			first = high + 1
		}
	}
	for range 12 {
		add(2, 1+rng.IntN(3))
	}
	remove(next-2, next-1)
	add(3, 2)
	remove(first, first+9)
	for range 4 {
		add(3, 2)
	}
	remove(next-9, next-1) // across segments
	add(4, 3)
	remove(first, next-1) // a snapshot from the leader
	next = 500
	for range 6 {
		add(5, 3)
	}
	return list
}

// TestEachOperationFails fails each write, sync, replacement, creation and deletion of a file of the log, before it is
// carried out and after it. The log reports it, or has carried out what it should. Then the power is cut. The log has
// every entry that was acknowledged, and takes the next one.
func TestEachOperationFails(t *testing.T) { atresttest.BothWays(t, testEachOperationFails) }

func testEachOperationFails(t *testing.T, keys *atrest.Ring) {
	list := changes()
	opened := 0
	for _, done := range []bool{false, true} {
		for failAt := 1; ; failAt++ {
			if testing.Short() && failAt%5 != 0 {
				continue
			}
			dir := memCopy(t, newTestLog(t, keys).dir)
			disk := newFaultyDisk(t, dir, failAt, done)
			o := optionsWith(dir, keys)
			o.disk = disk.do
			before, after, failed := runChanges(t, dir, o, list)
			if disk.hit == "" {
				if failAt < 60 {
					t.Fatalf("only %d operations", disk.count)
				}
				break
			}
			for name, kept := range map[string]func(string) bool{
				"only what was synced": func(string) bool { return false },
				"all":                  func(string) bool { return true },
				"the mark":             func(name string) bool { return name == "mark" },
				"the segments":         func(name string) bool { return strings.HasSuffix(name, ".wal") },
				"the keys":             func(name string) bool { return name == "keys" },
			} {
				cut := disk.cut(t, kept)
				got, err := read(cut, keys)
				if err != nil || got != before && got != after {
					t.Errorf("%s (done %v) in %q, left: %s: %v: the log has\n%.150s, not\n%.150s nor\n%.150s", disk.hit,
						done, failed, name, err, got, before, after)
				}
				opened++
				_ = os.RemoveAll(filepath.Dir(cut))
			}
		}
	}
	t.Logf("%d power cuts", opened)
}

// runChanges changes a log until something fails. It returns the content that was acknowledged, and the one after the
// change that failed.
func runChanges(t *testing.T, dir string, o Options, list []change) (before, after, failed string) {
	t.Helper()
	memory := raft.NewInmemStore()
	text := func() string {
		content, err := content(memory)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	broken := false
	o.Failed = func(error) { broken = true }
	l, err := Open(dir, o)
	if err != nil {
		return text(), text(), "open"
	}
	for _, c := range list {
		before = text()
		if err := c.want(memory); err != nil {
			t.Fatal(err)
		}
		after = text()
		if err := c.do(l); err != nil {
			_ = l.Close(false)
			return before, after, c.name
		}
	}
	if err := l.Close(true); err != nil || broken {
		return after, after, "close"
	}
	return after, after, ""
}
