package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// fullDisk opens real files, and lacks a resource for all operations from a given one on until it is freed. A write is
// done by half.
type fullDisk struct {
	mu   sync.Mutex
	err  error // what the operating system says
	left int   // operations before the first that fails
	hit  bool
	free bool
}

// lacks counts an operation and returns why it fails, nil if it does not.
func (d *fullDisk) lacks(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free {
		return nil
	}
	if d.left > 0 {
		d.left--
		return nil
	}
	d.hit = true
	return &fs.PathError{Op: op, Path: path, Err: d.err}
}

func (d *fullDisk) open(path string, flag int) (segment.File, error) {
	if flag != os.O_RDONLY {
		if err := d.lacks("open", path); err != nil {
			return nil, err
		}
	}
	f, err := segment.OpenFile(path, flag)
	if err != nil {
		return nil, err
	}
	return &fullFile{File: f, disk: d, path: path}, nil
}

func (d *fullDisk) writeFile(path string, data []byte, mode os.FileMode) error {
	if err := d.lacks("write", path); err != nil {
		return durable.Unchanged(err)
	}
	return durable.WriteFile(path, data, mode)
}

type fullFile struct {
	segment.File
	disk *fullDisk
	path string
}

func (f *fullFile) WriteAt(data []byte, at int64) (int, error) {
	if err := f.disk.lacks("write", f.path); err != nil {
		n, writeErr := f.File.WriteAt(data[:len(data)/2], at)
		return n, errors.Join(err, writeErr)
	}
	return f.File.WriteAt(data, at)
}

// TestExhausted lacks a resource at every single operation on the node's files. Blocks are refused with a code, and the
// node serves what it has. Once the resource is there, it accepts the rest, without a restart or with one.
func TestExhausted(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 9)
	for _, errno := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
	} {
		want := wire.ErrUnavailable
		if durable.NoSpace(errno) {
			want = wire.ErrNoSpace
		}
		for _, restart := range []bool{false, true} {
			hit := true
			for left := 0; hit; left++ {
				disk := &fullDisk{err: errno, free: true}
				hit = exhausted(t, c, disk, left, want, restart)
			}
		}
	}
}

// exhausted runs the steps once, and reports whether they reached the operation.
func exhausted(t *testing.T, c *testChain, disk *fullDisk, left int, want error, restart bool) bool {
	t.Helper()
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 1200, open: disk.open, writeFile: disk.writeFile}
	n := mustOpen(t, cfg)
	disk.free, disk.left = false, left
	name := fmt.Sprintf("operation %d, %v, restart %v", left, disk.err, restart)
	acked := 0
	for ; acked < len(c.blocks); acked++ {
		var err error
		if acked == 4 { // the Put moves the next block from the inbox to the chain
			_, err = n.PutInbox(t.Context(), 5, c.blocks[5].Bytes())
		}
		if err == nil {
			_, err = n.Put(t.Context(), uint64(acked), c.blocks[acked].Bytes())
		}
		if errors.Is(err, want) {
			break
		} else if err != nil {
			t.Fatalf("%s: Put of block %d: %v", name, acked, err)
		}
	}
	if n.Status().Inbox.Len() == 0 {
		c.check(t, n, int(n.Status().Height))
	}
	select {
	case err := <-n.Failed():
		t.Fatalf("%s: the node stopped: %v", name, err)
	default:
	}
	hit := disk.hit
	if restart {
		crash(t, n)
		cfg.open, cfg.writeFile = nil, nil
		n = mustOpen(t, cfg)
	}
	disk.mu.Lock()
	disk.free = true
	disk.mu.Unlock()
	// The block that failed may be there, and the one of the inbox.
	if height := int(n.Status().Height); height < acked-1 || height > acked+2 {
		t.Fatalf("%s: height %d after %d blocks", name, height, acked)
	}
	c.putAll(t, n)
	c.check(t, n, len(c.blocks))
	mustClose(t, n)
	verified(t, cfg.Dir, c, len(c.blocks))
	return hit
}

// TestFullDisk checks that a node without room refuses blocks for the chain and the inbox and opens no repair, and that
// it serves and checks what it has.
func TestFullDisk(t *testing.T) {
	c := newTestChain(2)
	c.growTo(t, 9)
	var full error
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), Room: func() error { return full }})
	for number := range 5 {
		if _, err := n.Put(t.Context(), uint64(number), c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	full = fmt.Errorf("%w: for a test", wire.ErrNoSpace)
	if _, err := n.Put(t.Context(), 5, c.blocks[5].Bytes()); !errors.Is(err, wire.ErrNoSpace) {
		t.Errorf("Put: %v", err)
	}
	if _, err := n.Put(t.Context(), 4, c.blocks[4].Bytes()); err != nil {
		t.Errorf("Put of a block that is here: %v", err)
	}
	if _, err := n.PutInbox(t.Context(), 7, c.blocks[7].Bytes()); !errors.Is(err, wire.ErrNoSpace) {
		t.Errorf("PutInbox: %v", err)
	}
	if _, err := n.Receive(t.Context(), wire.ReceiveOrder{Ticket: "t", Keep: 3}); !errors.Is(err, wire.ErrNoSpace) {
		t.Errorf("Receive: %v", err)
	}
	c.check(t, n, 5)
	if report := c.checked(t, n, 5); len(report.Findings) > 0 || report.Unchecked != 5 {
		t.Errorf("the check says %+v", report)
	}
	full = nil
	c.putAll(t, n)
	c.check(t, n, 9)
}

// TestExhaustedInRepair lacks a resource at every single operation on the node's files during a repair. The transfer
// fails, the node goes on, and the same repair succeeds once the resource is there.
func TestExhaustedInRepair(t *testing.T) {
	const height, end = 30, 36
	c, base := filled(t, 60, height)
	c.growTo(t, end)
	source := c.source(t)
	pieces := c.pieces(chain.Range{From: 5, To: 6}, chain.Range{From: 8, To: 10}, chain.Range{From: height, To: end})
	stream := streamOf(t, source, pieces)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EMFILE} {
		hit := true
		for left := 0; hit; left++ {
			disk := &fullDisk{err: errno, free: true}
			cfg := Config{
				AtRest: testKeys, Dir: copyDir(t, base.Dir), SegmentBytes: base.SegmentBytes, open: disk.open,
				writeFile: disk.writeFile,
			}
			n := mustOpen(t, cfg)
			for _, number := range []uint64{5, 8, 9} {
				path, p := segmentOf(t, n, number)
				flip(t, path, p.Offset+100)
			}
			name := fmt.Sprintf("operation %d, %v", left, errno)
			disk.mu.Lock()
			disk.free, disk.left = false, left
			disk.mu.Unlock()
			order := wire.ReceiveOrder{Ticket: "t", Keep: height, Pieces: pieces}
			_, err := n.Receive(t.Context(), order)
			if err == nil {
				err = n.Take(t.Context(), "t", bytes.NewReader(stream))
			}
			if hit = disk.hit; hit != (err != nil) || errors.Is(err, ErrFailed) {
				t.Fatalf("%s: %v", name, err)
			}
			disk.mu.Lock()
			disk.free = true
			disk.mu.Unlock()
			var status wire.ReceiveStatus
			if status, err = n.Receive(t.Context(), order); err == nil && len(status.Missing) > 0 {
				err = n.Take(t.Context(), "t", bytes.NewReader(stream))
			}
			if status, endErr := n.Receive(t.Context(), order); err != nil || endErr != nil || len(status.Missing) > 0 {
				t.Fatalf("%s: the second try: %v, %v, %+v", name, err, endErr, status)
			}
			c.checked(t, n, end) // it writes what is missing in the index
			c.clean(t, n, end)
			mustClose(t, n)
			verified(t, cfg.Dir, c, end)
		}
	}
}
