package raftstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/internal/durable"
)

// start is one start of a master on its data folder. The zero start stands for none.
type start struct {
	id      [16]byte // random
	renewed uint64   // how often it was renewed since: so that a copy of the folder of a running master is told from the folder
}

// starts tells a data folder from an older copy of itself. It is the file starts of the folder:
//
//	magic "CSMS" ‖ version u8 = 1
//	own u32   ‖ start × own, the oldest first                      the starts on this folder
//	peers u32 ‖ (len8 ‖ member id ‖ start) × peers, by member id   the last start that was accepted of each other member
//	crc u32: CRC-32C of everything before it
//	start = id[16] ‖ renewed u64, big endian
//
// A member tells its peers its newest start, and each peer keeps the last one that it accepted. A folder that does not hold that start in
// its own list is an older copy, or a copy of which another process has been started since: what it acknowledged and voted for after the
// copy was made is not in it, so it must do neither again. A peer that has heard of no start accepts any.
type starts struct {
	path  string
	watch func(what string) (done func()) // of writes that may hang

	mu    sync.Mutex // guards all below, and the file
	own   []start    // the newest last
	begun bool       // the newest is the present one
	peers map[string]start
	told  map[string]start // own start that a peer is known to have accepted; not in the file
}

const (
	startsFile = "starts"
	startSize  = 16 + 8
	// maxStarts bounds the list of own starts: the oldest are forgotten. A master that was started more often than that while a peer was
	// away, and has met another each time, is refused by it.
	maxStarts = 10_000
)

var startsFormat = durable.Format{
	Magic: "CSMS", Version: 1,
	Remedy: "move the folder away to join as a new master; where no other master is left, recover this one with " +
		"'chainstore master recover'",
}

// openStarts reads the file of a folder. needed says that it must be there, since the group refuses a folder without. The error wraps
// [ErrDisk] or [durable.ErrNewerFormat].
func openStarts(dir string, needed bool) (*starts, error) {
	s := &starts{
		path: filepath.Join(dir, startsFile), watch: func(string) func() { return func() {} }, peers: map[string]start{}, told: map[string]start{},
	}
	err := startsFormat.Read(s.path, s.parse)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist) && !needed:
		return s, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s is missing (%s)", ErrDisk, s.path, startsFormat.Remedy)
	case errors.Is(err, durable.ErrNewerFormat):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrDisk, err)
}

// parse reads the body of the file.
func (s *starts) parse(b *durable.Fields) {
	for n := b.Uint32(); n > 0 && !b.Failed(); n-- {
		s.own = append(s.own, readStart(b))
	}
	for n := b.Uint32(); n > 0 && !b.Failed(); n-- {
		id := b.String8()
		s.peers[id] = readStart(b)
	}
}

func (s start) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, s.id[:]...), s.renewed)
}

// parseStart reads the first startSize bytes.
func parseStart(b []byte) start {
	return start{id: [16]byte(b[:16]), renewed: binary.BigEndian.Uint64(b[16:])}
}

func readStart(b *durable.Fields) start {
	if raw := b.Bytes(startSize); raw != nil {
		return parseStart(raw)
	}
	return start{}
}

// encode returns the body of the file. mu is held.
func (s *starts) encode() []byte {
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
func (s *starts) save() error {
	defer s.watch("write " + s.path)()
	if err := startsFormat.Write(s.path, s.encode()); err != nil {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return nil
}

// begin adds a start, before anybody hears of it.
func (s *starts) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beginLocked()
}

func (s *starts) beginLocked() error {
	var now start
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

// renew renews the present start. One that nobody has heard of needs no renewal.
func (s *starts) renew() error {
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

// current is the present start. It begins with the first who is to hear of it: a process that ends before leaves no start behind.
func (s *starts) current() (start, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		if err := s.beginLocked(); err != nil {
			return start{}, err
		}
	}
	return s.own[len(s.own)-1], nil
}

// knows reports whether a start is one of this folder's, as it is now: none is.
func (s *starts) knows(x start) bool {
	if x == (start{}) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.own, func(o start) bool { return o.id == x.id && o.renewed >= x.renewed })
}

// lastOf is the last start of a member that was accepted.
func (s *starts) lastOf(member string) start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[member]
}

// accept writes down the start of a member, which knows that the last one was before. It reports false, and changes nothing, where another
// start of the member was accepted meanwhile. The error wraps [ErrDisk].
func (s *starts) accept(member string, before, now start) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.peers[member]
	switch {
	case known && last.id == now.id && last.renewed >= now.renewed:
		return true, nil // the same start, which has been heard of otherwise
	case last.id != now.id && last != before:
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

// tell notes that a peer has accepted a start of this master.
func (s *starts) tell(member string, own start) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.told[member]; last.id != own.id || last.renewed < own.renewed {
		s.told[member] = own
	}
}

// knownTo reports whether a peer is known to have accepted the present start.
func (s *starts) knownTo(member string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun && s.told[member] == s.own[len(s.own)-1]
}

// members are those of which a start was accepted.
func (s *starts) members() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.peers))
}

// forget drops the starts of members that will never come back.
func (s *starts) forget(gone func(member string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.peers)
	maps.DeleteFunc(s.peers, func(id string, _ start) bool { return gone(id) })
	if len(s.peers) == len(before) {
		return nil
	}
	if err := s.save(); err != nil {
		s.peers = before
		return err
	}
	return nil
}
