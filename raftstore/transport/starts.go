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
var ErrStarts = errors.New("the starts of this master cannot be written")

// Start identifies one start of a master on its data folder. The zero Start stands for none.
type Start struct {
	id      [16]byte // random
	renewed uint64   // number of renewals, which distinguishes the folder of a running master from a copy of it
}

const startSize = 16 + 8

func (s Start) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, s.id[:]...), s.renewed)
}

// parseStart reads the first startSize bytes.
func parseStart(b []byte) Start {
	return Start{id: [16]byte(b[:16]), renewed: binary.BigEndian.Uint64(b[16:])}
}

// Starts lists the starts of a master on its data folder, to recognise an older copy of the folder. It is a file:
//
//	magic "CSMS" ‖ version u8 = 1
//	own u32   ‖ start × own, the oldest first                      the starts on this folder
//	peers u32 ‖ (len8 ‖ member id ‖ start) × peers, by member id the last start that was accepted of each other member
//	crc u32: CRC-32C of everything before it
//	start = id[16] ‖ renewed u64, big endian
//
// A member shows its newest start to its peers, and each peer keeps the last one that it accepted. A folder whose own
// list lacks that start is an older copy, or a copy on which another process has been started since. It lacks what the
// master acknowledged and voted for after the copy was made, so it must not acknowledge or vote again. A peer that has
// accepted no start of a member yet accepts any.
type Starts struct {
	path string
	// Watch is called before each write, and its result after it. Writes may hang.
	Watch func(what string) (done func())

	mu         sync.Mutex // guards all below, and the file
	own        []Start    // the newest last
	added      bool       // the newest is the present one
	peers      map[string]Start
	acceptedBy map[string]Start // own start that a peer has accepted, as far as is known; not in the file
}

// maxStarts bounds the list of own starts: the oldest are dropped. A peer that was away for more starts than that,
// and saw none of them, refuses the master.
const maxStarts = 10_000

var startsFormat = durable.Format{
	Magic: "CSMS", Version: 1,
	Remedy: "remove the member, move the folder away, and join with a ticket; where no other master is left, " +
		"recover this one with " +
		"'chainstore master recover'",
}

// OpenStarts reads the file at path. A missing file is an empty list, unless it is needed. Errors are those of
// [durable.Format.Read].
func OpenStarts(path string, needed bool) (*Starts, error) {
	s := &Starts{
		path: path, Watch: func(string) func() { return func() {} },
		peers: map[string]Start{}, acceptedBy: map[string]Start{},
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
		s.own = append(s.own, parseStart(b.Fixed(startSize)))
	}
	for n := b.Uint32(); n > 0 && !b.Failed(); n-- {
		id := b.String8()
		s.peers[id] = parseStart(b.Fixed(startSize))
	}
}

// encodeStarts returns the body of the file.
func encodeStarts(own []Start, peers map[string]Start) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(own)))
	for _, o := range own {
		data = o.appendTo(data)
	}
	data = binary.BigEndian.AppendUint32(data, uint32(len(peers)))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		data = append(append(data, byte(len(id))), id...)
		data = peers[id].appendTo(data)
	}
	return data
}

// save replaces both lists, on disk first. The caller holds mu.
func (s *Starts) save(own []Start, peers map[string]Start) error {
	defer s.Watch("write " + s.path)()
	if err := startsFormat.Write(s.path, encodeStarts(own, peers)); err != nil {
		return fmt.Errorf("%w: %w", ErrStarts, err)
	}
	s.own, s.peers = own, peers
	return nil
}

// add adds the present start, before any peer sees it. The caller holds mu.
func (s *Starts) add() error {
	var now Start
	rand.Read(now.id[:])
	own := append(slices.Clone(s.own), now)
	if err := s.save(own[max(0, len(own)-maxStarts):], s.peers); err != nil {
		return err
	}
	s.added = true
	return nil
}

// Renew renews the present start. It does nothing while no peer has seen it. The error wraps [ErrStarts].
func (s *Starts) Renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.added {
		return nil
	}
	own := slices.Clone(s.own)
	own[len(own)-1].renewed++
	return s.save(own, s.peers)
}

// Current returns the present start. The first call writes it to disk, so that a process that ends before any peer has
// seen its start leaves none behind. The error wraps [ErrStarts].
func (s *Starts) Current() (Start, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.added {
		if err := s.add(); err != nil {
			return Start{}, err
		}
	}
	return s.own[len(s.own)-1], nil
}

// contains reports whether a start, with its renewals, is one of this folder's. It is true for the zero Start.
func (s *Starts) contains(x Start) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return x == (Start{}) ||
		slices.ContainsFunc(s.own, func(o Start) bool { return o.id == x.id && o.renewed >= x.renewed })
}

// lastOf returns the last start of a member that was accepted.
func (s *Starts) lastOf(member string) Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[member]
}

// accept writes the present start of a member to disk. previous is the last one as the handshake saw it. It returns
// false, and changes nothing, if another start of the member was accepted meanwhile. The error wraps [ErrStarts].
func (s *Starts) accept(member string, previous, now Start) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, found := s.peers[member]
	switch {
	case found && last.id == now.id && last.renewed >= now.renewed:
		return true, nil // the same start, accepted on another connection
	case last.id != now.id && last != previous:
		return false, nil
	}
	peers := maps.Clone(s.peers)
	peers[member] = now
	err := s.save(s.own, peers)
	return err == nil, err
}

// setAcceptedBy records that a peer has accepted a start of this master.
func (s *Starts) setAcceptedBy(peer string, own Start) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.acceptedBy[peer]; last.id != own.id || last.renewed < own.renewed {
		s.acceptedBy[peer] = own
	}
}

// AcceptedBy reports whether a peer is known to have accepted the present start.
func (s *Starts) AcceptedBy(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.added && s.acceptedBy[peer] == s.own[len(s.own)-1]
}

// Forget drops the starts of the members that the group has removed. The error wraps [ErrStarts].
func (s *Starts) Forget(removed func(member string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers := maps.Clone(s.peers)
	maps.DeleteFunc(peers, func(id string, _ Start) bool { return removed(id) })
	if len(peers) == len(s.peers) {
		return nil
	}
	return s.save(s.own, peers)
}
