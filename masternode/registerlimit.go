package masternode

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Limits of what a registration may enter: each new worker and each new address leaves a record in the audit trail for
// good. A worker gets addressBurst addresses at once, and one each addressPause after that. A source registers
// workerBurst new workers at once, and one each workerPause after that.
const (
	addressBurst = 10
	addressPause = time.Minute
	workerBurst  = 64
	workerPause  = 10 * time.Second

	maxEntrants = 4096 // that are remembered; one that is forgotten begins with all of its burst
)

// registerLimit bounds how often workers enter new addresses through this leader. The zero value is ready. Its methods
// may be called by many goroutines.
type registerLimit struct {
	mu     sync.Mutex // guards the fields below
	used   map[string]*list.Element
	recent list.List // of *entrant, the one that was used last at the front
}

// entrant is a worker or a source. until is when it has all of its burst again.
type entrant struct {
	name  string
	until time.Time
}

// take counts a registration that enters something new: an address of a known worker, or a new worker from a source.
// The error wraps wire.ErrTooManyRequests if there were too many.
func (l *registerLimit) take(known bool, worker, source string, now time.Time) error {
	name, what, burst, pause := "worker "+worker, "addresses of this worker", addressBurst, addressPause
	if !known {
		name, what, burst, pause = "source "+network(source), "new workers from this address", workerBurst, workerPause
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.entrantOf(name)
	if r.until.Before(now) {
		r.until = now
	}
	if r.until.Sub(now) > time.Duration(burst-1)*pause {
		return fmt.Errorf("%w: %d %s are entered at once, and one each %v after that", wire.ErrTooManyRequests, burst,
			what, pause)
	}
	r.until = r.until.Add(pause)
	return nil
}

// entrantOf returns the entrant of a name. The caller holds mu.
func (l *registerLimit) entrantOf(name string) *entrant {
	if e := l.used[name]; e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(*entrant)
	}
	if l.used == nil {
		l.used = map[string]*list.Element{}
	}
	if l.recent.Len() >= maxEntrants {
		delete(l.used, l.recent.Remove(l.recent.Back()).(*entrant).name)
	}
	r := &entrant{name: name}
	l.used[name] = l.recent.PushFront(r)
	return r
}

// network returns the address for which a source counts: of IPv6 its network of 64 bits.
func network(source string) string {
	addr, err := netip.ParseAddr(source)
	if addr = addr.Unmap().WithZone(""); err != nil || !addr.Is6() {
		return addr.String()
	}
	prefix, _ := addr.Prefix(64)
	return prefix.String()
}
