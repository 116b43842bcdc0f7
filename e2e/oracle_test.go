package e2e

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// oracle knows what the cluster must contain: every acknowledged record, at its place. It is safe for concurrent use.
type oracle struct {
	mu      sync.Mutex // guards the fields below
	acked   map[place]*ackedRecord
	order   []*ackedRecord // in the order of the acknowledgements
	unknown []client.Entry // of unknown outcome: each is in the chain once, or not at all
	repeats []repeat       // compared with acked at the end
	faults  []string       // faults of the cluster
	history []operation    // outcomes of appends and reads, for the model
	open    map[string]int // index in the history of the appends of unknown outcome, by payload
	acks    []time.Time    // times of acknowledgements
	chained int            // number of records in the chain at the end
	flood   *flood         // additional records of a flood, or nil
}

// repeat is the response to a repeated append.
type repeat struct {
	entries []client.Entry
	at      []wire.Position
}

// place is the place of a record in the chain.
type place struct {
	block  uint64
	offset uint32
}

// ackedRecord is an acknowledged record. It keeps only the hash of the payload, as there may be a million records.
type ackedRecord struct {
	key, kind string
	size      int
	sum       [sha256.Size]byte
	at        wire.Position
}

func newAcked(e client.Entry, at wire.Position) *ackedRecord {
	return &ackedRecord{key: e.Key, kind: e.Type, size: len(e.Payload), sum: sha256.Sum256(e.Payload), at: at}
}

func (r *ackedRecord) String() string {
	return fmt.Sprintf("block %d, offset %d (index %d, %d bytes, key %q)", r.at.Block, r.at.Offset, r.at.Index, r.size,
		r.key)
}

// maxFaults bounds the number of reported faults: a broken cluster causes very many.
const maxFaults = 20

func newOracle() *oracle { return &oracle{acked: map[place]*ackedRecord{}, open: map[string]int{}} }

// fault records a fault of the cluster.
func (o *oracle) fault(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faultLocked(format, args...)
}

func (o *oracle) faultLocked(format string, args ...any) {
	if len(o.faults) < maxFaults {
		o.faults = append(o.faults, fmt.Sprintf(format, args...))
	}
}

// ack records an acknowledgement. It keeps the entries.
func (o *oracle) ack(entries []client.Entry, at []wire.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acks = append(o.acks, time.Now())
	if len(at) != len(entries) {
		o.faultLocked("%d positions for %d records", len(at), len(entries))
		return
	}
	for i := range entries {
		r := newAcked(entries[i], at[i])
		if i > 0 && (at[i].Index <= at[i-1].Index || at[i].Block < at[i-1].Block || at[i].Block == at[i-1].Block &&
			at[i].Offset != at[i-1].Offset+1) {
			o.faultLocked("within a batch %v comes after %v", r, newAcked(entries[i-1], at[i-1]))
		}
		where := place{at[i].Block, at[i].Offset}
		if other := o.acked[where]; other != nil {
			o.faultLocked("one position was given twice: %v, and key %q", other, r.key)
			continue
		}
		o.acked[where] = r
		o.order = append(o.order, r)
	}
}

// take adds a record of another oracle.
func (o *oracle) take(r *ackedRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acked[place{r.at.Block, r.at.Offset}] = r
	o.order = append(o.order, r)
}

// repeated records the response to a repeated append. The first response may still be outstanding.
func (o *oracle) repeated(entries []client.Entry, at []wire.Position) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.repeats = append(o.repeats, repeat{entries, at})
}

// checkRepeats compares the positions of repeated appends with those of the first response.
func (o *oracle) checkRepeats() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, again := range o.repeats {
		if len(again.at) != len(again.entries) {
			o.faultLocked("%d positions for %d records that were appended again", len(again.at), len(again.entries))
			continue
		}
		for i, e := range again.entries {
			at := again.at[i]
			first := o.acked[place{at.Block, at.Offset}]
			if first == nil {
				o.faultLocked("a record that was appended again is said to be at %+v, where none is acknowledged: "+
					"key %q", at, e.Key)
				continue
			}
			at.State = first.at.State
			if at != first.at || first.key != e.Key {
				o.faultLocked("appended again, key %q is said to be at %+v; %v was acknowledged at %+v", e.Key, at,
					first, first.at)
			}
		}
	}
}

// giveUp records entries for which it is unknown whether they were appended.
func (o *oracle) giveUp(entries []client.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unknown = append(o.unknown, entries...)
}

// count returns the number of acknowledged records.
func (o *oracle) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.order)
}

// appends returns the number of acknowledged appends, each of one or more records.
func (o *oracle) appends() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.acks)
}

// all returns the acknowledged records.
func (o *oracle) all() []*ackedRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.order[:len(o.order):len(o.order)]
}

// any returns a random acknowledged record, with a bias to new ones, or nil if there is none.
func (o *oracle) any(random *rand.Rand) *ackedRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.order)
	switch {
	case n == 0:
		return nil
	case random.IntN(2) == 0:
		return o.order[n-1-random.IntN(min(n, 64))]
	}
	return o.order[random.IntN(n)]
}

// differs describes how a record that was read differs from the acknowledged one. It returns "" if it does not. The
// state may advance from committed to stored. The cluster chooses the type if the entry had none.
func (r *ackedRecord) differs(got wire.Record) string {
	at := got.Position
	at.State = r.at.State
	switch {
	case at != r.at:
		return fmt.Sprintf("it was acknowledged at %+v and is at %+v", r.at, got.Position)
	case sha256.Sum256(got.Payload) != r.sum:
		return fmt.Sprintf("the payload differs: %d bytes %.80q, where %d bytes were appended", len(got.Payload),
			got.Payload, r.size)
	case got.Key != r.key:
		return fmt.Sprintf("the key is %q, not %q", got.Key, r.key)
	case r.kind != "" && got.Type != r.kind:
		return fmt.Sprintf("the type is %q, not %q", got.Type, r.kind)
	}
	return ""
}
