// Package diskspace watches how much of the disk under a data folder is free. Roles refuse data before the disk is
// full, so that small files, votes and the entries that make room can still be written.
package diskspace

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// Limits are the bytes of free space at which a role acts. 0 means no limit.
type Limits struct {
	Min  int64 // below it, no records or blocks are taken
	Warn int64 // below it, status and metrics warn
}

// Defaults of the limits, in bytes.
const (
	DefaultMin  = 256 << 20
	DefaultWarn = 1 << 30
)

// interval is the time between two looks at the disk.
const interval = 500 * time.Millisecond

// Watch watches one data folder. Its methods may be called from any goroutine.
type Watch struct {
	dir    string
	limits Limits
	log    hclog.Logger
	space  func(dir string) (free, total uint64, err error)
	keep   func(dir string) error // writes the reserve
	last   atomic.Pointer[wire.Disk]
	// loggedState and loggedErr are what was logged last; used by the goroutine that looks.
	loggedState wire.DiskState
	loggedErr   string
}

// New looks at the disk once. The folder must exist, and is not changed. Run keeps looking.
func New(dir string, limits Limits, log hclog.Logger) *Watch {
	w := &Watch{
		dir: dir, limits: limits, log: log, space: durable.Space, keep: durable.KeepReserve, loggedState: wire.DiskOK,
	}
	w.last.Store(&wire.Disk{State: wire.DiskOK})
	w.look()
	return w
}

// Run looks at the disk until ctx ends, and keeps the reserve of the folder, which this process must have locked. The
// error is that of a failed sync, after which the folder must not be used.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		w.look()
		if w.Disk().State != wire.DiskFull {
			if err := w.keep(w.dir); durable.IsSync(err) {
				return fmt.Errorf("write the reserve of %s: %w", w.dir, err)
			} // after any other failure it is tried again; the role works without
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks for the free space. If that fails, the last answer stays.
func (w *Watch) look() {
	free, total, err := w.space(w.dir)
	if err != nil {
		if text := err.Error(); text != w.loggedErr {
			w.loggedErr = text
			w.log.Warn("the free space of the data folder is not known", "error", err)
		}
		return
	}
	w.loggedErr = ""
	at := wire.Disk{Free: free, Total: total, State: w.limits.state(free)}
	w.last.Store(&at)
	if at.State != w.loggedState {
		w.logState(&at)
	}
}

func (w *Watch) logState(at *wire.Disk) {
	log, text := w.log.Info, "there is room on the disk again"
	switch at.State {
	case wire.DiskFull:
		log, text = w.log.Error, "the disk is full: records and blocks are refused until there is room (--min-free)"
	case wire.DiskLow:
		log, text = w.log.Warn, "the disk is nearly full: make room before records and blocks are refused (--warn-free)"
	}
	log(text, "data", w.dir, "free_mib", at.Free>>20, "min_free_mib", w.limits.Min>>20)
	w.loggedState = at.State
}

// state judges free space.
func (l Limits) state(free uint64) wire.DiskState {
	switch {
	case l.Min > 0 && free < uint64(l.Min):
		return wire.DiskFull
	case l.Warn > 0 && free < uint64(l.Warn):
		return wire.DiskLow
	}
	return wire.DiskOK
}

// Disk returns what the watch saw last.
func (w *Watch) Disk() wire.Disk { return *w.last.Load() }

// Room returns why no records or blocks are taken: an error that wraps [wire.ErrNoSpace] while less than the minimum is
// free, else nil.
func (w *Watch) Room() error {
	if at := w.last.Load(); at.State == wire.DiskFull {
		return fmt.Errorf("%w: %d MiB are free on the disk of %s, --min-free is %d; nothing was changed",
			wire.ErrNoSpace, at.Free>>20, w.dir, w.limits.Min>>20)
	}
	return nil
}

// floorPart of the minimum is kept for what a role must write to go on.
const floorPart = 4

// Reserved returns why nothing of that many bytes may be written, besides what a role needs to go on: an error that
// wraps [wire.ErrNoSpace] if less than a quarter of the minimum would be free then, else nil.
func (w *Watch) Reserved(bytes uint64) error {
	at := w.last.Load()
	if w.limits.Min <= 0 || at.Total == 0 || at.Free >= uint64(w.limits.Min)/floorPart+bytes {
		return nil
	}
	return fmt.Errorf("%w: %d MiB are free on the disk of %s, %d are needed and a quarter of --min-free (%d) is kept",
		wire.ErrNoSpace, at.Free>>20, w.dir, bytes>>20, w.limits.Min>>20)
}
