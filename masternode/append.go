package masternode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Entry is a record to be appended.
type Entry struct {
	Key     string // at most 255 bytes of UTF-8 without control characters
	Type    string // at most 255 bytes of UTF-8 without control characters
	Payload []byte // 1 byte to Limits.RecordBytes; not changed until Append returns
}

// Appended has the positions of the entries of an append, in order.
type Appended struct {
	Positions []wire.Position
	Replay    bool // the same append was made before, under the same idempotency key
}

// appendRequest is an append on its way to the leader.
type appendRequest struct {
	project   uint32
	key, body masterfsm.Digest
	part      masterfsm.Part // its zero value for no part of a stream
	commits   []chain.Hash
	ends      []int  // where each record ends in encoded
	encoded   []byte // the records, one behind the other
	deadline  context.Context
}

// requestOverhead is the size that a request and a record add to a submission besides the encoded record, rounded up.
const requestOverhead = 80

func (p *appendRequest) size() int {
	return len(p.encoded) + len(p.commits)*chain.HashSize + requestOverhead
}

// Append appends entries to a project, all or none, in order, and returns when a majority of the masters has them on
// disk. An idempotency key ("" for none) makes a retry safe. Errors: wire.ErrEmptyBody, wire.ErrTooLarge,
// wire.ErrBadRequest, wire.ErrNoLeader, wire.ErrUnknownOutcome, wire.ErrBacklog, wire.ErrKeyReused, *wire.QuotaError,
// masterfsm.ErrOversize.
func (n *Node) Append(
	ctx context.Context, project masterfsm.Project, entries []Entry, idempotencyKey string,
) (_ Appended, err error) {
	defer n.cfg.Histograms.Append.Done(time.Now(), &err)
	if err := n.cfg.Limits.check(entries, idempotencyKey); err != nil {
		return Appended{}, err
	}
	d := masterfsm.Demand{Project: project.ID}
	if idempotencyKey != "" {
		d.Key = digest(sha256.Sum256([]byte(idempotencyKey)))
	}
	if err := n.admitEarly(ctx, d, entries); err != nil {
		return Appended{}, err
	}
	p, err := prepare(project.ID, entries, idempotencyKey)
	if err != nil {
		return Appended{}, err
	}
	p.deadline = ctx
	// No early return when ctx ends: the entries' bytes are in use until the batch is done, which observes the
	// deadline.
	placement, err := n.appends.Start(p).Wait(context.WithoutCancel(ctx))
	if err != nil {
		return Appended{}, err
	}
	if err := placement.Err.Error(); err != nil {
		return Appended{}, n.refused(err, project.ID, placement)
	}
	if placement.Replay {
		return n.replay(ctx, placement)
	}
	return Appended{Positions: p.positions(placement)}, nil
}

// admitEarly refuses an append that the state machine would refuse, before its payloads are replicated and synced on
// all masters. The state machine has the final word: this check is an estimate of the rate, twice that of the quota, by
// what this master alone sends on. A retry under a known idempotency key passes, and so do records that their stream
// has. This master's table may be old, so a refusal is confirmed first; without a leader it is left to the state
// machine. The sizes of d are set here.
func (n *Node) admitEarly(ctx context.Context, d masterfsm.Demand, entries []Entry) error {
	d.Records = uint64(len(entries))
	for i := range entries {
		size := uint64(len(entries[i].Payload))
		d.Bytes += size
		d.Largest = max(d.Largest, size)
	}
	look := func() masterfsm.Placement {
		var p masterfsm.Placement
		var quota masterfsm.Quota
		n.cfg.Ledger.Read(func(s *masterfsm.State) { p.Err, quota = s.Admits(d) })
		if p.Err == masterfsm.Accepted {
			if p.Shortage = n.sent.spend(quota, d, n.cfg.Clock()); p.Shortage != nil {
				p.Err = masterfsm.RefusedRate
			}
		}
		return p
	}
	if look().Err == masterfsm.Accepted || n.confirm(ctx) != nil {
		return nil
	}
	if p := look(); p.Err != masterfsm.Accepted {
		return n.refused(p.Err.Error(), d.Project, p)
	}
	return nil
}

// sentRates counts what this master sends on, by project. mu guards the others.
type sentRates struct {
	mu    sync.Mutex
	since time.Time
	spent map[uint32]masterfsm.Spent // of twice the quota
	swept uint64                     // when projects were last dropped, in milliseconds since then
}

const (
	// maxSentRates is how many projects are counted before those that have nothing left to refill are dropped.
	maxSentRates = 1024
	// refillMillis is how long a quota takes to refill, and the least time between two searches for such projects.
	refillMillis = 1000
)

// spend counts an append, unless that is over twice the quota: then it returns the shortage.
func (r *sentRates) spend(q masterfsm.Quota, d masterfsm.Demand, now time.Time) *masterfsm.Shortage {
	if q.RecordsPerSecond == 0 && q.BytesPerSecond == 0 {
		return nil
	}
	twice := masterfsm.Quota{RecordsPerSecond: 2 * q.RecordsPerSecond, BytesPerSecond: 2 * q.BytesPerSecond}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spent == nil {
		r.since, r.spent = now, map[uint32]masterfsm.Spent{}
	}
	age := uint64(max(0, now.Sub(r.since).Milliseconds()))
	if len(r.spent) >= maxSentRates && age-min(r.swept, age) >= refillMillis {
		maps.DeleteFunc(r.spent, func(_ uint32, s masterfsm.Spent) bool { return age-min(s.Age, age) >= refillMillis })
		r.swept = age
	}
	spent, short := r.spent[d.Project].Spend(twice, d, age)
	if short != nil {
		short.Limit, short.Left = short.Limit/2, 0
		return short
	}
	r.spent[d.Project] = spent
	return nil
}

// prepare encodes and hashes the entries.
func prepare(project uint32, entries []Entry, idempotencyKey string) (*appendRequest, error) {
	size := 0
	for i := range entries {
		size += chain.RecordOverhead + len(entries[i].Key) + len(entries[i].Type) + len(entries[i].Payload)
	}
	p := &appendRequest{
		project: project, commits: make([]chain.Hash, len(entries)), ends: make([]int, len(entries)),
		encoded: make([]byte, 0, size),
	}
	salts := make([]byte, chain.SaltSize*len(entries))
	if _, err := rand.Read(salts); err != nil {
		return nil, fmt.Errorf("random salts: %w", err)
	}
	for i := range entries {
		r := chain.Record{Project: project, Key: entries[i].Key, Type: entries[i].Type, Payload: entries[i].Payload}
		copy(r.Salt[:], salts[i*chain.SaltSize:])
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", wire.ErrBadRequest, i, err)
		}
		start := len(p.encoded)
		p.encoded = r.AppendTo(p.encoded)
		p.commits[i] = chain.EncodedCommit(p.encoded[start:])
		p.ends[i] = len(p.encoded)
	}
	if idempotencyKey != "" {
		p.key = digest(sha256.Sum256([]byte(idempotencyKey)))
		p.body = bodyDigest(entries)
	}
	return p, nil
}

func digest(sum [sha256.Size]byte) masterfsm.Digest { return masterfsm.Digest(sum[:16]) }

// bodyDigest identifies a body. Each field has its length in front, so that different lists of entries differ.
func bodyDigest(entries []Entry) masterfsm.Digest {
	h := sha256.New()
	var length [8]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	for i := range entries {
		field([]byte(entries[i].Key))
		field([]byte(entries[i].Type))
		field(entries[i].Payload)
	}
	return digest([sha256.Size]byte(h.Sum(nil)))
}

// record returns the encoded record i.
func (p *appendRequest) record(i int) []byte {
	start := 0
	if i > 0 {
		start = p.ends[i-1]
	}
	return p.encoded[start:p.ends[i]]
}

// positions returns the positions of the records.
func (p *appendRequest) positions(at masterfsm.Placement) []wire.Position {
	positions := make([]wire.Position, 0, len(p.commits))
	for _, run := range at.Runs {
		for j := range run.Count {
			i := len(positions)
			if i == len(p.commits) {
				break
			}
			leaf := chain.EncodedLeaf(p.record(i), p.commits[i])
			leaf.Time = at.Time
			positions = append(positions, wire.Position{
				Block: run.Block, Offset: run.Offset + j, Index: run.Index + uint64(j),
				Time: at.Time, Leaf: leaf.Hash(), State: wire.StateCommitted,
			})
		}
	}
	return positions
}

// replay answers a retry with the first positions. The table has the position of the first record and their number; the
// rest is read from the records themselves.
func (n *Node) replay(ctx context.Context, p masterfsm.Placement) (Appended, error) {
	if len(p.Runs) != 1 {
		return Appended{}, fmt.Errorf("a replay of %d runs", len(p.Runs))
	}
	at := p.Runs[0]
	answer := Appended{Replay: true, Positions: make([]wire.Position, 0, at.Count)}
	block, offset := at.Block, at.Offset
	for len(answer.Positions) < int(at.Count) {
		r, err := n.anyRecord(ctx, block, offset)
		if errors.Is(err, wire.ErrNotFound) && offset > 0 {
			block, offset = block+1, 0 // the batch ran over into the next block
			continue
		}
		if err != nil {
			return Appended{}, fmt.Errorf("read the records of the first time: %w", err)
		}
		answer.Positions = append(answer.Positions, r.Position())
		offset++
	}
	return answer, nil
}

// Limits of what clients may send. Each master has its own: positions do not depend on them.
type Limits struct {
	RecordBytes  int // of a payload
	BatchRecords int
	BatchBytes   int // of the payloads of a batch together
}

// DefaultLimits are 1 MiB a record, and 10,000 records or 4 MiB a batch.
func DefaultLimits() Limits {
	return Limits{RecordBytes: 1 << 20, BatchRecords: 10_000, BatchBytes: 4 << 20}
}

// maxIdempotencyKey bounds what is hashed for a key.
const maxIdempotencyKey = 1024

// check compares entries with the limits.
func (l Limits) check(entries []Entry, idempotencyKey string) error {
	if len(entries) == 0 {
		return fmt.Errorf("%w: a batch needs at least one record", wire.ErrEmptyBody)
	}
	if len(entries) > l.BatchRecords {
		return fmt.Errorf("%w: %d records in a batch, the limit is %d; nothing of it was appended, send it in parts",
			wire.ErrTooLarge, len(entries), l.BatchRecords)
	}
	if len(idempotencyKey) > maxIdempotencyKey {
		return fmt.Errorf("%w: the idempotency key has %d bytes, the limit is %d",
			wire.ErrBadRequest, len(idempotencyKey), maxIdempotencyKey)
	}
	total := 0
	for i := range entries {
		size := len(entries[i].Payload)
		total += size
		switch {
		case size == 0 && len(entries) > 1:
			return fmt.Errorf("%w: record %d of the batch is empty; nothing of it was appended", wire.ErrEmptyBody, i)
		case size == 0:
			return wire.ErrEmptyBody
		case size > l.RecordBytes:
			return fmt.Errorf("%w: the payload of record %d has %d bytes, the limit is %d; nothing was appended",
				wire.ErrTooLarge, i, size, l.RecordBytes)
		}
		err := wire.CheckRecordText(entries[i].Key, entries[i].Type)
		if err != nil && len(entries) > 1 {
			return fmt.Errorf("%w: record %d of the batch: %w; nothing of it was appended", wire.ErrBadRequest, i, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
		}
	}
	if len(entries) > 1 && total > l.BatchBytes {
		return fmt.Errorf("%w: a batch of %d bytes, the limit is %d; nothing of it was appended, send it in parts",
			wire.ErrTooLarge, total, l.BatchBytes)
	}
	return nil
}

// refused adds details to a refusal of the state machine.
func (n *Node) refused(err error, project uint32, p masterfsm.Placement) error {
	switch {
	case p.Shortage != nil:
		return (*wire.QuotaError)(p.Shortage)
	case errors.Is(err, masterfsm.ErrOversize):
		var owner masterfsm.Project
		n.cfg.Ledger.Read(func(s *masterfsm.State) { owner, _ = s.Project(project) })
		return fmt.Errorf("%w; the quota is %s; nothing was appended, send smaller records or fewer at once",
			err, quotaText(owner.Quota))
	case errors.Is(err, wire.ErrProjectClosed):
		var owner masterfsm.Project
		n.cfg.Ledger.Read(func(s *masterfsm.State) { owner, _ = s.Project(project) })
		return fmt.Errorf("%w: an administrator closed project %d, %q, at %s; nothing was appended", err, project,
			owner.Name, time.UnixMilli(int64(owner.Closed)).UTC().Format(time.RFC3339))
	case errors.Is(err, masterfsm.ErrUnknownProject):
		return fmt.Errorf("%w: %w", wire.ErrUnauthorized, err)
	}
	return err
}

// quotaText describes a quota.
func quotaText(q masterfsm.Quota) string {
	var parts []string
	add := func(limit uint64, what string) {
		if limit != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", limit, what))
		}
	}
	add(q.RecordBytes, "bytes a record")
	add(q.RecordsPerSecond, "records a second")
	add(q.BytesPerSecond, "bytes a second")
	return strings.Join(parts, ", ")
}
