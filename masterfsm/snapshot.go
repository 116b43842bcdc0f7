package masterfsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fields"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
)

// A snapshot of the state (big endian; a "part" is length u64 ‖ bytes):
//
//	magic "CSSN" ‖ version u8
//	part: the small tables as JSON (image)
//	members u64 ‖ (part: member id ‖ boot u64 ‖ newest u64 ‖ results u64 ‖ result × results) × members
//	              result: seq u64 ‖ content[16] (from version 5 on) ‖ part: placements
//	keys u64    ‖ (key[16] ‖ body[8] ‖ block u64 ‖ offset u32 ‖ count u32 ‖ age u64) × keys
//	streams u64 ‖ (name[16] ‖ project u32 ‖ named u8 ‖ used u64 ‖ last u64 ‖ token u32 ‖ own u64 ‖
//	               time u64 ‖ part: id (both from version 9 on) ‖
//	               runs u64 ‖ (block u64 ‖ offset u32 ‖ count u32) × runs) …
//	              (from version 8 on; the stream that was used least recently first)
//	held u64    ‖ held block × held
//	              a mined one:   1 u8 ‖ part: block as on disk
//	              a pending one: 0 u8 ‖ pending
//	open        ‖ pending
//	pending     = number u64 ‖ first u64 ‖ time u64 ‖ part: ends u32 … ‖ part: records ‖ part: leaf hashes
//	crc u32: CRC-32C of everything before it
//
// Equal states have equal bytes: maps are written in the order of their keys. The version is the oldest that can hold
// the state, so that every member of the group can read it: 4 at protocol level 0, 5 at level 1, 6 at level 2, 7 at
// level 3, 8 at level 4, 9 at levels 5 and 6, 10 from level 7 on, and wherever the audit trail has its project.
const (
	snapshotMagic   = "CSSN"
	snapshotVersion = 10
	oldestSnapshot  = 3 // without what the group signs: the log has no key
)

// snapshotVersionOf is the version of snapshots at a protocol level. audit says that the project of the audit trail is
// there, which a recovery finds at any level.
func snapshotVersionOf(level uint64, audit bool) uint8 {
	switch {
	case audit || level >= LevelAudit:
		// With the audit trail, join tickets, keys of masters, waiting workers, closed projects and logs, the TLS step.
		return 10
	case level >= LevelAdmins:
		return 9 // with named admin tokens
	case level >= LevelStreams:
		return 8
	case level >= LevelElapsed:
		return 7 // with elapsed times of checks
	case level >= LevelCodes:
		return 6
	case level >= LevelIdentities:
		return 5 // with the group's level and the content of submissions
	}
	return 4
}

// ErrSnapshot: the bytes are no snapshot of a state, or were damaged.
var ErrSnapshot = errors.New("snapshot cannot be read")

// image is the part of a state that is small.
type image struct {
	Group        Group        `json:"group"`
	Level        uint64       `json:"level,omitempty"`
	Term         Term         `json:"term"`
	Settings     Settings     `json:"settings"`
	Now          uint64       `json:"now"`
	Age          uint64       `json:"age"`   // of the keys' clock, milliseconds
	Begun        uint64       `json:"begun"` // the age at which the term began
	Head         []byte       `json:"head"`  // as chain.Head.AppendTo writes it
	Boundaries   []Boundary   `json:"boundaries"`
	Stored       uint64       `json:"stored"`
	Checkpoint   Boundary     `json:"checkpoint"`
	Published    Boundary     `json:"published"`
	Cosigned     []Cosigned   `json:"cosigned"`
	Log          Log          `json:"log"`
	Floor        uint64       `json:"floor"`      // of the checkpoints that are shown
	Difficulty   uint8        `json:"difficulty"` // of the block that waits for a nonce
	Storages     []Storage    `json:"storages"`
	Miners       []Miner      `json:"miners"`
	Projects     []Project    `json:"projects"`
	Next         uint32       `json:"next_project"`
	Masters      []Master     `json:"masters"`
	Removed      []string     `json:"removed_masters"`
	IntegrityLog IntegrityLog `json:"story"`
	FailedSyncs  []FailedSync `json:"failed_syncs,omitempty"` // from version 7 on
	Admins       []Admin      `json:"admins,omitempty"`       // from version 9 on
	LastAdmin    uint32       `json:"last_admin,omitempty"`   // there
	Tickets      []Ticket     `json:"tickets,omitempty"`      // from version 10 on
	LastTicket   uint32       `json:"last_ticket,omitempty"`  // there
	// Waiting are the workers that wait for approval, from version 10 on.
	Waiting []WaitingWorker `json:"waiting_workers,omitempty"`
	Audit   *Project        `json:"audit,omitempty"`   // from version 10 on
	Intents []Intent        `json:"intents,omitempty"` // there
	Reports []Reported      `json:"reports,omitempty"` // there
	TLS     wire.TLSState   `json:"tls,omitzero"`      // there
}

// Snapshot is a state as it was at one moment. It shares all that never changes, so taking one is quick however much
// the masters hold.
type Snapshot struct {
	state   State
	streams []streams.Image
}

// Snapshot takes a snapshot.
func (s *State) Snapshot() *Snapshot {
	c := *s
	c.held = slices.Clone(s.held)
	c.storages, c.miners, c.projects = slices.Clone(s.storages), slices.Clone(s.miners), slices.Clone(s.projects)
	if s.waiting != nil {
		c.waiting = new(*s.waiting)
	}
	if s.audit != nil {
		c.audit = new(*s.audit)
	}
	c.members = make(map[string]*memberWindow, len(s.members))
	for id, w := range s.members {
		c.members[id] = &memberWindow{Boot: w.Boot, Newest: w.Newest, Results: maps.Clone(w.Results)}
	}
	c.keys.slots, c.keys.pages = nil, slices.Clone(s.keys.pages)
	c.tokens, c.names, c.streams = nil, nil, nil
	return &Snapshot{state: c, streams: s.streams.Images()}
}

// Digest is the SHA-256 of the snapshot's bytes: it is equal on all masters at equal log indices.
func (sn *Snapshot) Digest() (chain.Hash, error) {
	h := sha256.New()
	if err := sn.Write(h); err != nil {
		return chain.Hash{}, err
	}
	return chain.Hash(h.Sum(nil)), nil
}

// sink writes fields. After an error it writes nothing more: [bufio.Writer.Flush] returns the error.
type sink struct{ *bufio.Writer }

func (k *sink) raw(b []byte) { _, _ = k.Write(b) }
func (k *sink) u8(v uint8)   { _ = k.WriteByte(v) }
func (k *sink) u32(v uint32) { k.raw(binary.BigEndian.AppendUint32(k.AvailableBuffer(), v)) }
func (k *sink) u64(v uint64) { k.raw(binary.BigEndian.AppendUint64(k.AvailableBuffer(), v)) }

func (k *sink) part(b []byte) {
	k.u64(uint64(len(b)))
	k.raw(b)
}

// Write writes the snapshot's bytes.
func (sn *Snapshot) Write(w io.Writer) error {
	s := &sn.state
	crc := crc32.New(castagnoli)
	k := &sink{bufio.NewWriterSize(io.MultiWriter(w, crc), 256<<10)}
	k.raw([]byte(snapshotMagic))
	k.u8(snapshotVersionOf(s.level, s.audit != nil))
	img := image{
		Group: s.group, Level: s.level, Term: s.term, Settings: s.settings, Now: s.now, Age: s.age, Begun: s.begun,
		Head: s.head.AppendTo(nil), Boundaries: s.boundaries, Stored: s.stored,
		Checkpoint: s.checkpoint, Published: s.published, Cosigned: s.cosigned, Log: s.log, Floor: s.floor,
		Storages: s.storages, Miners: s.miners, Projects: s.projects, Next: s.nextProject,
		Masters: s.masters, Removed: s.removedMasters, IntegrityLog: s.integrity,
		FailedSyncs: s.failedSyncs, Admins: s.admins, LastAdmin: s.lastAdmin,
		Tickets: s.tickets, LastTicket: s.lastTicket, Waiting: s.waitingWorkers,
		Audit: s.audit, Intents: s.intents, Reports: s.reports,
		TLS: s.tls,
	}
	if s.waiting != nil {
		img.Difficulty = s.waiting.header.Difficulty
	}
	small, err := json.Marshal(img)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	k.part(small)
	s.writeMembers(k)
	s.writeKeys(k)
	if s.level >= LevelStreams {
		writeStreams(k, s.level, sn.streams)
	}
	k.u64(uint64(len(s.held)))
	for _, b := range s.held {
		if b.mined {
			k.u8(1)
			k.part(b.block.Bytes())
		} else {
			k.u8(0)
			writePending(k, b)
		}
	}
	writePending(k, &s.open)
	if err := k.Flush(); err != nil {
		return err
	}
	_, err = w.Write(crc.Sum(nil))
	return err
}

func (s *State) writeMembers(k *sink) {
	k.u64(uint64(len(s.members)))
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		w := s.members[id]
		k.part([]byte(id))
		k.u64(w.Boot)
		k.u64(w.Newest)
		k.u64(uint64(len(w.Results)))
		for _, seq := range slices.Sorted(maps.Keys(w.Results)) {
			done := w.Results[seq]
			k.u64(seq)
			if s.level >= LevelIdentities {
				k.raw(done.content[:])
			}
			k.part(AppendPlacements(nil, done.placements))
		}
	}
}

func (s *State) writeKeys(k *sink) {
	k.u64(s.keys.next - s.keys.first)
	var b []byte
	for number := s.keys.first; number < s.keys.next; number++ {
		e := s.keys.at(number)
		b = append(append(b[:0], e.key[:]...), e.body[:]...)
		b = binary.BigEndian.AppendUint64(b, e.block)
		b = binary.BigEndian.AppendUint32(b, e.offset)
		b = binary.BigEndian.AppendUint32(b, e.count)
		k.raw(binary.BigEndian.AppendUint64(b, e.age))
	}
}

func writeStreams(k *sink, level uint64, all []streams.Image) {
	k.u64(uint64(len(all)))
	for i := range all {
		m := &all[i]
		k.raw(m.Name[:])
		k.u32(m.Project)
		named := uint8(0)
		if m.Named {
			named = 1
		}
		k.u8(named)
		k.u64(m.Used)
		k.u64(m.Last)
		k.u32(m.Token)
		k.u64(m.Own)
		if level >= LevelStreamIDs {
			k.u64(m.Time)
			k.part([]byte(m.ID))
		}
		runs := uint64(0)
		m.Each(func(streams.Run) { runs++ })
		k.u64(runs)
		m.Each(func(r streams.Run) {
			k.u64(r.Block)
			k.u32(r.Offset)
			k.u32(r.Count)
		})
	}
}

func writePending(k *sink, b *heldBlock) {
	k.u64(b.number)
	k.u64(b.first)
	k.u64(b.time)
	ends, _ := binary.Append(nil, binary.BigEndian, b.ends)
	k.part(ends)
	k.part(b.records)
	k.u64(uint64(len(b.leaves)) * chain.HashSize)
	for i := range b.leaves {
		k.raw(b.leaves[i][:])
	}
}

// source reads fields and sums them up. After an error it gives zeros.
type source struct {
	r   *bufio.Reader
	crc uint32
	err error
}

// raw reads n bytes. A wrong length costs no more memory than a chunk or the stream's own length.
func (c *source) raw(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	const chunk = 16 << 20 // more than the records of most blocks
	var b []byte
	switch {
	case n <= chunk:
		b = make([]byte, n)
		_, c.err = io.ReadFull(c.r, b)
	case n < 1<<32:
		var buf bytes.Buffer
		_, c.err = io.CopyN(&buf, c.r, int64(n))
		b = buf.Bytes()
	default:
		c.err = fmt.Errorf("a part of %d bytes", n)
	}
	if c.err != nil {
		return nil
	}
	c.crc = crc32.Update(c.crc, castagnoli, b)
	return b
}

func (c *source) u8() uint8   { return fields.New(c.raw(1)).Uint8() }
func (c *source) u64() uint64 { return fields.New(c.raw(8)).Uint64() }

func (c *source) part() []byte { return c.raw(c.u64()) }

func (c *source) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Restore reads a snapshot to its end and makes the state that it was taken of. The error wraps [ErrSnapshot].
func Restore(r io.Reader) (*State, error) {
	s, err := restore(&source{r: bufio.NewReaderSize(r, 256<<10)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func restore(c *source) (*State, error) {
	if magic := c.raw(4); c.err == nil && string(magic) != snapshotMagic {
		return nil, fmt.Errorf("it starts with %q, not %q", magic, snapshotMagic)
	}
	version := c.u8()
	switch {
	case c.err != nil:
	case version > snapshotVersion:
		return nil, fmt.Errorf("snapshot version %d, this program knows up to %d: a newer ChainStore is needed",
			version, snapshotVersion)
	case version < oldestSnapshot:
		return nil, fmt.Errorf("snapshot version %d, this program knows %d to %d", version, oldestSnapshot,
			snapshotVersion)
	}
	var img image
	if small := c.part(); c.err == nil {
		if err := json.Unmarshal(small, &img); err != nil {
			return nil, err
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	head, err := chain.ParseHead(img.Head)
	if err != nil {
		return nil, err
	}
	switch {
	case img.Level > ProtocolLevel:
		return nil, fmt.Errorf("protocol level %d, this program knows %d: a newer ChainStore is needed", img.Level,
			ProtocolLevel)
	case version != snapshotVersionOf(img.Level, img.Audit != nil) && (version != oldestSnapshot || img.Level != 0):
		return nil, fmt.Errorf("version %d with protocol level %d", version, img.Level)
	}
	s := New()
	s.level = img.Level
	s.group, s.term, s.settings, s.now = img.Group, img.Term, img.Settings, img.Now
	s.head, s.boundaries, s.stored = head, img.Boundaries, img.Stored
	s.floor = img.Floor
	if version > oldestSnapshot { // the oldest has nothing of these, and its group signs nothing: see advanceCheckpoint
		s.checkpoint, s.published, s.cosigned, s.log = img.Checkpoint, img.Published, img.Cosigned, img.Log
	}
	s.storages, s.miners, s.integrity = img.Storages, img.Miners, img.IntegrityLog
	s.failedSyncs, s.tls = img.FailedSyncs, img.TLS
	s.age, s.begun, s.masters, s.removedMasters = img.Age, img.Begun, img.Masters, img.Removed
	for _, p := range img.Projects {
		if p.ID < s.nextProject {
			return nil, fmt.Errorf("project %d stands where one from %d on is due", p.ID, s.nextProject)
		}
		s.addProject(p)
	}
	s.nextProject = max(s.nextProject, img.Next)
	if err := s.restoreAdmins(img.Admins, img.LastAdmin); err != nil {
		return nil, err
	}
	if err := s.restoreTickets(img.Tickets, img.LastTicket); err != nil {
		return nil, err
	}
	if err := s.restoreWaiting(img.Waiting); err != nil {
		return nil, err
	}
	if err := s.restoreAudit(img.Audit, img.Intents, img.Reports); err != nil {
		return nil, err
	}
	s.readMembers(c)
	s.readKeys(c)
	if s.level >= LevelStreams {
		s.readStreams(c)
	}
	s.readBlocks(c)
	sum := c.crc
	if stored := c.raw(4); c.err == nil && binary.BigEndian.Uint32(stored) != sum {
		return nil, fmt.Errorf("checksum %08x, the bytes have %08x", stored, sum)
	}
	if c.err != nil {
		return nil, c.err
	}
	s.prepare()
	s.recomputeDerived()
	if s.waiting != nil {
		s.waiting.header.Difficulty = img.Difficulty
	}
	return s, nil
}

func (s *State) readMembers(c *source) {
	for n := c.u64(); n > 0 && c.err == nil; n-- {
		id := string(c.part())
		w := &memberWindow{Boot: c.u64(), Newest: c.u64(), Results: map[uint64]result{}}
		for m := c.u64(); m > 0 && c.err == nil; m-- {
			seq := c.u64()
			var content Digest
			if s.level >= LevelIdentities {
				copy(content[:], c.raw(uint64(len(content))))
			}
			placements, err := ParsePlacements(c.part())
			if err != nil {
				c.fail(err)
			}
			w.Results[seq] = result{content: content, placements: placements}
		}
		s.members[id] = w
	}
}

func (s *State) readKeys(c *source) {
	const size = 16 + 8 + 8 + 4 + 4 + 8
	n := c.u64()
	s.keys.reserve(n)
	for ; n > 0 && c.err == nil; n-- {
		r := fields.New(c.raw(size))
		s.keys.add(keyEntry{
			key: Digest(r.Fixed(16)), body: [8]byte(r.Fixed(8)),
			block: r.Uint64(), offset: r.Uint32(), count: r.Uint32(), age: r.Uint64(),
		})
	}
}

func (s *State) readStreams(c *source) {
	const runSize = 8 + 4 + 4
	for n := c.u64(); n > 0 && c.err == nil; n-- {
		head := fields.New(c.raw(16 + 4 + 1 + 8 + 8 + 4 + 8))
		m := streams.Image{Name: streams.Name(head.Fixed(16)), Project: head.Uint32(), Named: head.Uint8() != 0,
			Used: head.Uint64(), Last: head.Uint64(), Token: head.Uint32(), Own: head.Uint64()}
		if s.level >= LevelStreamIDs {
			m.Time, m.ID = c.u64(), string(c.part())
		}
		count := c.u64()
		if c.err == nil && count > streams.Window {
			c.fail(fmt.Errorf("stream %x has %d runs", m.Name, count))
		}
		if c.err != nil {
			return
		}
		r := fields.New(c.raw(count * runSize))
		runs := make([]streams.Run, count)
		for i := range runs {
			runs[i] = streams.Run{Block: r.Uint64(), Offset: r.Uint32(), Count: r.Uint32()}
		}
		if c.err == nil {
			if err := s.streams.Restore(m, runs); err != nil {
				c.fail(err)
			}
		}
	}
}

func (s *State) readBlocks(c *source) {
	for n := c.u64(); n > 0 && c.err == nil; n-- {
		var b *heldBlock
		if c.u8() == 1 {
			block, err := chain.ParseBlock(c.part())
			if err != nil {
				c.fail(err)
				return
			}
			b = minedBlock(block, block.Leaves(nil))
		} else {
			b = readPending(c)
		}
		s.held = append(s.held, b)
	}
	s.open = *readPending(c)
	s.countBytes()
}

func readPending(c *source) *heldBlock {
	b := &heldBlock{number: c.u64(), first: c.u64(), time: c.u64()}
	ends := c.part()
	b.records = c.part()
	leaves := c.part()
	if len(ends)/4 != len(leaves)/chain.HashSize || len(ends)%4 != 0 || len(leaves)%chain.HashSize != 0 {
		c.fail(fmt.Errorf("block %d: %d bytes of ends, %d of leaves", b.number, len(ends), len(leaves)))
		return &heldBlock{}
	}
	last := uint32(0)
	for i := 0; i < len(ends); i += 4 {
		end := binary.BigEndian.Uint32(ends[i:])
		if end < last || uint64(end) > uint64(len(b.records)) {
			c.fail(fmt.Errorf("block %d: a record ends at %d", b.number, end))
			return &heldBlock{}
		}
		last = end
		b.ends = append(b.ends, end)
	}
	for i := 0; i < len(leaves); i += chain.HashSize {
		b.leaves = append(b.leaves, chain.Hash(leaves[i:i+chain.HashSize]))
	}
	return b
}
