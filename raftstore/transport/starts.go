package transport

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/internal/durable"
)

// ErrStarts: the file of starts cannot be written. The master must stop.
var ErrStarts = errors.New("the starts of this master cannot be kept")

// Start identifies one start of a master on its data folder. The zero Start stands for none.
type Start struct {
	id      [16]byte // random
	renewed uint64   // number of renewals: it tells the folder of a running master from a copy of it
}

const startSize = 16 + 8

func (s Start) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, s.id[:]...), s.renewed)
}

// parseStart reads the first startSize bytes.
func parseStart(b []byte) Start {
	return Start{id: [16]byte(b[:16]), renewed: binary.BigEndian.Uint64(b[16:])}
}

func readStart(b *durable.Fields) Start {
	if raw := b.Bytes(startSize); raw != nil {
		return parseStart(raw)
	}
	return Start{}
}

// Starts tells a data folder from an older copy of itself. It is a file of the folder:
//
//	magic "CSMS" ‖ version u8 = 1
//	own u32   ‖ start × own, the oldest first                      the starts on this folder
//	peers u32 ‖ (len8 ‖ member id ‖ start) × peers, by member id the last start that was accepted of each other member
//	crc u32: CRC-32C of everything before it
//	start = id[16] ‖ renewed u64, big endian
//
// A member shows its newest start to its peers, and each peer keeps the last one that it accepted. A folder whose own
// list lacks that start is an older copy, or a copy of which another process has been started since. What it
// acknowledged and voted for after the copy was made is missing in it, so it must not acknowledge or vote again. A
// peer that has accepted no start of a member yet accepts any.
type Starts struct {
	path string
	// Watch is called before each write, and its result after it. Writes may hang.
	Watch func(what string) (done func())

	mu      sync.Mutex // guards all below, and the file
	own     []Start    // the newest last
	begun   bool       // the newest is the present one
	peers   map[string]Start
	knownTo map[string]Start // own start that a peer has accepted, as far as is known; not in the file
}

// maxStarts bounds the list of own starts: the oldest are dropped. A peer that was away for more starts than that,
// and saw none of them, refuses the master.
const maxStarts = 10_000

var startsFormat = durable.Format{
	Magic: "CSMS", Version: 1,
	Remedy: "move the folder away to join as a new master; where no other master is left, recover this one with " +
		"'chainstore master recover'",
}

// OpenStarts reads the file at path. A missing file is an empty list, unless it is needed. Errors are those of
// [durable.Format.Read].
func OpenStarts(path string, needed bool) (*Starts, error) {
	s := &Starts{
		path: path, Watch: func(string) func() { return func() {} },
		peers: map[string]Start{}, knownTo: map[string]Start{},
	}
	err := startsFormat.Read(s.path, s.parse)
	switch {
	case errors.Is(err, fs.ErrNotExist) && needed:
		return nil, fmt.Errorf("%s is missing (%s): %w", s.path, startsFormat.Remedy, fs.ErrNotExist)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return s, nil
}

// parse reads the body of the file.
func (s *Starts) parse(b *durable.Fields) {
	for n := b.Uint32(); n > 0 && !b.Failed(); n-- {
		s.own = append(s.own, readStart(b))
	}
	for n := b.Uint32(); n > 0 && !b.Failed(); n-- {
		id := b.String8()
		s.peers[id] = readStart(b)
	}
}

// encode returns the body of the file. mu is held.
func (s *Starts) encode() []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(s.own)))
	for _, o := range s.own {
		data = o.appendTo(data)
	}
	data = binary.BigEndian.AppendUint32(data, uint32(len(s.peers)))
	for _, id := range slices.Sorted(maps.Keys(s.peers)) {
		data = append(append(data, byte(len(id))), id...)
		data = s.peers[id].appendTo(data)
	}
	return data
}

// save writes the file. mu is held.
func (s *Starts) save() error {
	defer s.Watch("write " + s.path)()
	if err := startsFormat.Write(s.path, s.encode()); err != nil {
		return fmt.Errorf("%w: %w", ErrStarts, err)
	}
	return nil
}

// begin adds the present start, before any peer sees it. mu is held.
func (s *Starts) begin() error {
	var now Start
	rand.Read(now.id[:])
	before := s.own
	s.own = append(slices.Clone(s.own), now)
	if n := len(s.own); n > maxStarts {
		s.own = s.own[n-maxStarts:]
	}
	if err := s.save(); err != nil {
		s.own = before
		return err
	}
	s.begun = true
	return nil
}

// Renew renews the present start. It does nothing while no peer has seen it. The error wraps [ErrStarts].
func (s *Starts) Renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		return nil
	}
	now := &s.own[len(s.own)-1]
	now.renewed++
	if err := s.save(); err != nil {
		now.renewed--
		return err
	}
	return nil
}

// Current returns the present start. The first call writes it to disk, so that a process that ends before any peer has
// seen its start leaves none behind. The error wraps [ErrStarts].
func (s *Starts) Current() (Start, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		if err := s.begin(); err != nil {
			return Start{}, err
		}
	}
	return s.own[len(s.own)-1], nil
}

// knows reports whether a start, with its renewals, is one of this folder's. The zero Start is.
func (s *Starts) knows(x Start) bool {
	if x == (Start{}) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.own, func(o Start) bool { return o.id == x.id && o.renewed >= x.renewed })
}

// lastOf returns the last start of a member that was accepted.
func (s *Starts) lastOf(member string) Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[member]
}

// accept writes a member's start to disk, which knows that the last one was previous. It returns false, and changes
// nothing, where another start of the member was accepted meanwhile. The error wraps [ErrStarts].
func (s *Starts) accept(member string, previous, now Start) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.peers[member]
	switch {
	case known && last.id == now.id && last.renewed >= now.renewed:
		return true, nil // the same start, accepted on another connection
	case last.id != now.id && last != previous:
		return false, nil
	}
	s.peers[member] = now
	if err := s.save(); err != nil {
		if known {
			s.peers[member] = last
		} else {
			delete(s.peers, member)
		}
		return false, err
	}
	return true, nil
}

// setKnownTo records that a peer has accepted a start of this master.
func (s *Starts) setKnownTo(member string, own Start) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.knownTo[member]; last.id != own.id || last.renewed < own.renewed {
		s.knownTo[member] = own
	}
}

// KnownTo reports whether a peer is known to have accepted the present start.
func (s *Starts) KnownTo(member string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun && s.knownTo[member] == s.own[len(s.own)-1]
}

// Members returns the members of which a start was accepted.
func (s *Starts) Members() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.peers))
}

// Forget drops the starts of the members that are gone for ever. The error wraps [ErrStarts].
func (s *Starts) Forget(gone func(member string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.peers)
	maps.DeleteFunc(s.peers, func(id string, _ Start) bool { return gone(id) })
	if len(s.peers) == len(before) {
		return nil
	}
	if err := s.save(); err != nil {
		s.peers = before
		return err
	}
	return nil
}
