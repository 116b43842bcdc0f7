package diskspace

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

func TestWatch(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	w := New(dir, Limits{}, hclog.NewNullLogger())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	if d := w.Disk(); d.Total == 0 || d.Free > d.Total || d.State != wire.DiskOK {
		t.Errorf("the disk of the test is %+v", d)
	}
	w.limits = Limits{Min: 64 * mib, Warn: 256 * mib}
	for _, c := range []struct {
		free        uint64
		err         error // of the look
		state       wire.DiskState
		room, floor bool // room for records, for 1 MiB besides
	}{
		{256 * mib, nil, wire.DiskOK, true, true},
		{256*mib - 1, nil, wire.DiskLow, true, true},
		{64 * mib, nil, wire.DiskLow, true, true},
		{64*mib - 1, nil, wire.DiskFull, false, true},
		{0, errors.New("for a test"), wire.DiskFull, false, true}, // the last answer stays
		{17 * mib, nil, wire.DiskFull, false, true},
		{17*mib - 1, nil, wire.DiskFull, false, false},
		{0, nil, wire.DiskFull, false, false},
		{64 * mib, nil, wire.DiskLow, true, true},
		{1 << 40, nil, wire.DiskOK, true, true},
	} {
		w.space = func(string) (uint64, uint64, error) { return c.free, 1 << 41, c.err }
		w.look()
		if got := w.Disk().State; got != c.state {
			t.Errorf("%d bytes: %q, want %q", c.free, got, c.state)
		}
		for _, check := range []struct {
			err  error
			room bool
		}{{w.Room(), c.room}, {w.Reserved(mib), c.floor}} {
			if check.room != (check.err == nil) || check.err != nil && !errors.Is(check.err, wire.ErrNoSpace) {
				t.Errorf("%d bytes: %v", c.free, check.err)
			}
		}
	}
}

// TestNoLimits checks that a watch without limits refuses nothing.
func TestNoLimits(t *testing.T) {
	w := New(t.TempDir(), Limits{}, hclog.NewNullLogger())
	w.space = func(string) (uint64, uint64, error) { return 0, 1, nil }
	w.look()
	if err := errors.Join(w.Room(), w.Reserved(1)); err != nil {
		t.Error(err)
	}
}

// TestRunKeepsTheReserve checks that the reserve is written while there is room, and not on a full disk.
func TestRunKeepsTheReserve(t *testing.T) {
	for _, free := range []uint64{1 << 40, 1 << 20} {
		dir := t.TempDir()
		w := New(dir, Limits{Min: 64 << 20}, hclog.NewNullLogger())
		w.space = func(string) (uint64, uint64, error) { return free, 1 << 41, nil }
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it looks once
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "reserve")); (err == nil) != (free > 64<<20) {
			t.Errorf("%d bytes are free: %v", free, err)
		}
	}
}

// TestRunReportsAFailedSync checks that a failed sync of the reserve ends Run, so that the role remembers it.
func TestRunReportsAFailedSync(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it looks once
	for op, want := range map[string]bool{"write": false, "sync": true} {
		w := New(t.TempDir(), Limits{}, hclog.NewNullLogger())
		w.keep = func(dir string) error { return &os.PathError{Op: op, Path: dir, Err: syscall.ENOSPC} }
		if err := w.Run(ctx); durable.IsSync(err) != want || (err == nil) == want {
			t.Errorf("%s: %v", op, err)
		}
	}
}
