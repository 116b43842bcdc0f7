package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

var errDisk = errors.New("the disk said no")

// The ways in which an operation fails.
const (
	notDone  = "not done"
	halfDone = "half done" // of a write
	done     = "done all the same"
)

// faultyDisk opens real files and fails their operations from a given one on. The real files are what processes see,
// the page cache included. For each file the disk also keeps what is on the device, which a power failure leaves: the
// operations up to the last sync that succeeded. A sync that fails drops the operations before it, as the kernel does:
// no later sync makes them durable.
type faultyDisk struct {
	mu      sync.Mutex
	left    int    // operations before the first that fails
	how     string // the way in which it fails
	hit     string // the first operation that failed
	sick    string // syncs whose name contains it fail, in the way of how; "" for none
	folders map[string]bool
	devices map[uint64]*deviceFile // by inode
	entries map[string][]byte      // what the folder on the device has for files renamed since its last sync
}

// deviceFile is what the device has of a file.
type deviceFile struct {
	data    []byte
	pending []func([]byte) []byte // operations since the last sync
}

func newFaultyDisk(left int, how string) *faultyDisk {
	return &faultyDisk{
		left: left, how: how,
		folders: map[string]bool{}, devices: map[uint64]*deviceFile{}, entries: map[string][]byte{},
	}
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

func (d *faultyDisk) open(path string, flag int) (segment.File, error) {
	_, statErr := os.Lstat(path)
	f, err := segment.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.folders[filepath.Dir(path)] = true
	device := d.devices[inode(info)]
	if device == nil || statErr != nil {
		device = &deviceFile{}
		if device.data, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		d.devices[inode(info)] = device
	}
	return &faultyFile{File: f, disk: d, path: path, device: device}, nil
}

// writeFile is durable.WriteFile: of its operations, the sync of the file and that of the folder can fail.
func (d *faultyDisk) writeFile(path string, data []byte, mode os.FileMode) error {
	if err := d.try("sync of the file "+path, nothing, nothing); err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := durable.WriteFile(path, data, mode); err != nil {
		return err
	}
	d.mu.Lock()
	if _, ok := d.entries[path]; !ok {
		d.entries[path] = before
	}
	d.mu.Unlock()
	synced := func() error { delete(d.entries, path); return nil }
	return d.try("sync of the folder of "+path, synced, synced)
}

func nothing() error { return nil }

// try runs an operation, or fails it. half is the partial operation if it is interrupted.
func (d *faultyDisk) try(name string, whole, half func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	how := d.how
	switch {
	case d.sick != "" && strings.HasPrefix(name, "sync ") && strings.Contains(name, d.sick):
	case d.left > 0:
		d.left--
		return whole()
	case d.hit != "":
		how = notDone
	}
	if d.hit == "" {
		d.hit = name
	}
	failed := errDisk
	if op, path, _ := strings.Cut(name, " "); op == "sync" {
		failed = &os.PathError{Op: op, Path: path, Err: errDisk}
	}
	switch how {
	case done:
		return errors.Join(whole(), failed)
	case halfDone:
		return errors.Join(half(), failed)
	}
	return failed
}

// heal ends all failures.
func (d *faultyDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.sick, d.hit = 1<<30, "", ""
}

// powerCut leaves what is on the device.
func (d *faultyDisk) powerCut(t *testing.T) {
	t.Helper()
	for path, data := range d.entries {
		if data == nil {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clear(d.entries)
	for folder := range d.folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			device := d.devices[inode(info)]
			if device == nil || !info.Mode().IsRegular() {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, e.Name()), device.data, 0o600); err != nil {
				t.Fatal(err)
			}
			device.pending = nil
		}
	}
}

type faultyFile struct {
	segment.File
	disk   *faultyDisk
	path   string
	device *deviceFile
}

func (f *faultyFile) WriteAt(data []byte, at int64) (n int, err error) {
	write := func(data []byte) error {
		n, err = f.File.WriteAt(data, at)
		data = bytes.Clone(data)
		f.device.pending = append(f.device.pending, func(device []byte) []byte {
			if end := int(at) + len(data); end > len(device) {
				device = append(device, make([]byte, end-len(device))...)
			}
			copy(device[at:], data)
			return device
		})
		return err
	}
	err = f.disk.try("write "+f.path,
		func() error { return write(data) }, func() error { return write(data[:len(data)/2]) })
	return n, err
}

func (f *faultyFile) Truncate(size int64) error {
	cut := func() error {
		f.device.pending = append(f.device.pending, func(device []byte) []byte {
			return append(device, make([]byte, max(0, int(size)-len(device)))...)[:size]
		})
		return f.File.Truncate(size)
	}
	return f.disk.try("truncate "+f.path, cut, cut)
}

func (f *faultyFile) sync() error {
	for _, op := range f.device.pending {
		f.device.data = op(f.device.data)
	}
	f.device.pending = nil
	return nil
}

func (f *faultyFile) Sync() error {
	err := f.disk.try("sync "+f.path, f.sync, f.sync)
	if err != nil {
		f.disk.mu.Lock()
		f.device.pending = nil
		f.disk.mu.Unlock()
	}
	return err
}

func (f *faultyFile) DataSync() error { return f.Sync() }

// TestFaults fails every single operation on the node's files while blocks are put, in each way, and then ends the
// process or cuts the power. At the next start all acknowledged blocks must be there, the node must accept the rest,
// and the chain must verify.
func TestFaults(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 9)
	for _, how := range []string{notDone, halfDone, done} {
		for _, power := range []bool{false, true} {
			hit := true
			for left := 0; hit; left++ {
				hit = fault(t, c, left, how, power)
			}
		}
	}
}

// fault runs the steps once, and reports whether they reached the operation.
func fault(t *testing.T, c *testChain, left int, how string, power bool) bool {
	t.Helper()
	disk := newFaultyDisk(left, how)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 1200, open: disk.open}
	marked := openMark(t, &cfg)
	n, err := Open(cfg)
	acked := uint64(0)
	if err == nil {
		acked = putUntilFailed(t, c, n)
		crash(t, n)
	} else if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	name := fmt.Sprintf("operation %d (%s), %s, power cut %v, %d acknowledged", left, disk.hit, how, power, acked)
	if disk.hit != "" && err == nil && acked == uint64(len(c.blocks)) {
		t.Fatalf("%s: nobody noticed", name)
	}
	// Whoever opens the folder notes the error of Open.
	if want := strings.HasPrefix(disk.hit, "sync ") && err == nil; marked() != want {
		t.Fatalf("%s: the failed sync is remembered: %v", name, !want)
	}
	if power {
		disk.powerCut(t)
	}
	cfg.open, cfg.Mark = nil, nil
	if n, err = Open(cfg); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	height := n.Status().Height
	if height < acked || height > acked+1 {
		t.Fatalf("%s: height %d", name, height)
	}
	c.check(t, n, int(height))
	c.putAll(t, n)
	c.check(t, n, len(c.blocks))
	mustClose(t, n)
	verified(t, cfg.Dir, c, len(c.blocks))
	return disk.hit != ""
}

// openMark opens the mark of a node's folder. marked closes it, and reports whether a failed sync is remembered.
func openMark(t *testing.T, cfg *Config) (marked func() bool) {
	t.Helper()
	mark, err := durable.OpenSyncMark(cfg.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Mark = mark
	return func() bool {
		t.Helper()
		if err := mark.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := durable.OpenSyncMark(cfg.Dir, false)
		if err != nil && !errors.Is(err, durable.ErrSyncFailed) {
			t.Fatal(err)
		}
		return errors.Join(err, again.Close()) != nil
	}
}

// putUntilFailed puts the chain's blocks and returns how many were acknowledged. After a failure the node must have
// stopped.
func putUntilFailed(t *testing.T, c *testChain, n *Node) (acked uint64) {
	t.Helper()
	for number := range c.blocks {
		_, err := n.Put(t.Context(), uint64(number), c.blocks[number].Bytes())
		if err == nil {
			acked++
			continue
		}
		if !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
			t.Fatalf("Put: %v", err)
		}
		if err := <-n.Failed(); !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
			t.Fatalf("Failed delivers %v", err)
		}
		if _, open := <-n.Failed(); open {
			t.Fatal("Failed delivers twice")
		}
		for _, again := range []int{number, 0} {
			if status, err := n.Put(t.Context(), uint64(again), c.blocks[again].Bytes()); !errors.Is(err, ErrFailed) ||
				status.Height != acked {
				t.Fatalf("Put after a failure: %+v, %v", status, err)
			}
		}
		c.check(t, n, int(acked)) // reads continue
		break
	}
	return acked
}

// TestCloseFails checks that Close reports a failed sync, and that nothing is lost.
func TestCloseFails(t *testing.T) {
	c := newTestChain(2)
	c.growTo(t, 5)
	disk := newFaultyDisk(1<<30, notDone)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), open: disk.open}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	disk.mu.Lock()
	disk.left = 0
	disk.mu.Unlock()
	if err := n.Close(); !errors.Is(err, errDisk) {
		t.Errorf("Close: %v", err)
	}
	disk.powerCut(t)
	cfg.open = nil
	n = mustOpen(t, cfg)
	c.check(t, n, 5)
}

// TestLostTilePages checks that any page after the synced head may be missing after a power failure, even if later ones
// are there.
func TestLostTilePages(t *testing.T) {
	c, cfg := filled(t, 3, 20)
	n := mustOpen(t, cfg)
	from := n.Status().Size
	n.cfg.SegmentBytes = 1 << 30
	c.growTo(t, 60)
	_ = n.writer.Close() // replaced by a new one
	n.writer = nil
	c.putAll(t, n)
	crash(t, n)
	path := cfg.Dir + "/tiles/00"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[512+32*(from+3) : 512+32*(from+40)])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n = mustOpen(t, cfg)
	c.check(t, n, 60)
	mustClose(t, n)
	verified(t, cfg.Dir, c, 60)
}

// TestDamageAfterCrash damages a block after the synced head. The blocks after it show that the tree is correct.
func TestDamageAfterCrash(t *testing.T) {
	for _, index := range []bool{true, false} {
		c := newTestChain(4)
		c.growTo(t, 40)
		cfg := Config{AtRest: testKeys, Dir: memDir(t)}
		n := mustOpen(t, cfg)
		c.putAll(t, n)
		path, p := segmentOf(t, n, 25)
		crash(t, n)
		flip(t, path, p.Offset+90)
		if !index {
			remove(t, cfg.Dir, "index")
		}
		c.growTo(t, 44)
		n = mustOpen(t, cfg)
		c.check(t, n, 40, 25)
		c.putAll(t, n)
		c.check(t, n, 44, 25)
		mustClose(t, n)
		flip(t, path, p.Offset+90)
		n = mustOpen(t, cfg)
		c.check(t, n, 44)
		mustClose(t, n)
		verified(t, cfg.Dir, c, 44)
	}
}
