package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// Raft's names for the halves of a vote in the stable store. TestRaftUpgrade checks them.
const (
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	// keyVote is the name of the whole vote: term u64 ‖ candidate ‖ checksum.
	keyVote = "Vote"
)

// errNoValue has the text by which raft recognises a missing value.
var errNoValue = errors.New("not found")

// stableStore wraps raft's stable store. Raft writes a vote as two values, one after the other; the wrapper writes one
// (hashicorp/raft#661). Each value ends with the CRC-32C of its name and of everything before it, big endian. Earlier
// versions write none; they ignore that of the term, and with that of a vote they vote once only in the term, as they
// must. A failure ends the calling goroutine, as raft would panic.
type stableStore struct {
	raft.StableStore
	name     string // of the file, for errors
	fail     *failure
	watchdog *watchdog
	summed   bool // no value without a checksum is valid

	mu       sync.Mutex
	voteTerm uint64            // the first half of a vote
	known    map[string][]byte // values that were read or written, with their checksums: see get
}

// note keeps a value in memory.
func (s *stableStore) note(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string][]byte{}
	}
	s.known[key] = slices.Clone(value)
}

// Set stores a value.
func (s *stableStore) Set(key, value []byte) error {
	if string(key) == keyVoteCandidate {
		s.mu.Lock()
		value = append(binary.BigEndian.AppendUint64(nil, s.voteTerm), value...)
		s.mu.Unlock()
		key = []byte(keyVote)
	}
	s.fail.exitIfFailed()
	defer s.watchdog.watch(fmt.Sprintf("write %s to %s", key, s.name))()
	value = binary.BigEndian.AppendUint32(slices.Clip(value), durable.Checksum(key, value))
	if err := readMapped(func() error { return s.StableStore.Set(key, value) }); err != nil {
		s.fail.exit(diskError("write to "+s.name, err))
	}
	s.note(string(key), value)
	return nil
}

// SetUint64 stores a number. The term of a vote is kept until its candidate comes.
func (s *stableStore) SetUint64(key []byte, v uint64) error {
	if string(key) == keyVoteTerm {
		s.mu.Lock()
		s.voteTerm = v
		s.mu.Unlock()
		return nil
	}
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// Get returns a value.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if string(key) == keyVoteCandidate {
		vote, err := s.get([]byte(keyVote))
		if err != nil {
			return nil, err
		}
		return vote[8:], nil
	}
	return s.get(key)
}

// GetUint64 returns a number.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyVoteTerm {
		key = []byte(keyVote)
	}
	value, err := s.get(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// get returns a value of at least 8 bytes, without its checksum. A value is read once: package bbolt returns an older
// one if the newest meta page is damaged while the master runs.
func (s *stableStore) get(key []byte) (value []byte, err error) {
	s.mu.Lock()
	value, known := s.known[string(key)]
	s.mu.Unlock()
	if !known {
		err = readMapped(func() (err error) {
			value, err = s.StableStore.Get(key)
			return err
		})
	}
	if err != nil && err.Error() == errNoValue.Error() {
		return nil, errNoValue
	}
	whole := value
	if err == nil {
		value, err = s.checkValue(string(key), value)
	}
	if err != nil {
		s.fail.exit(diskError("read "+s.name, err))
	}
	if !known {
		s.note(string(key), whole)
	}
	return slices.Clone(value), nil
}

// checkValue returns a value without its checksum.
func (s *stableStore) checkValue(key string, value []byte) ([]byte, error) {
	end := len(value) - 4
	switch {
	case end >= 8 && binary.BigEndian.Uint32(value[end:]) == durable.Checksum([]byte(key), value[:end]):
		return value[:end], nil
	case s.summed || len(value) < 8 || key != keyVote && len(value) != 8:
		return nil, fmt.Errorf("%w: the %d bytes of %s do not match their checksum (%s)", durable.ErrDamaged,
			len(value), key, raftconfig.Remedy)
	}
	return value, nil
}

// addChecksums adds the checksums that an earlier version has not written.
func (s *stableStore) addChecksums() error {
	if s.summed {
		return nil
	}
	for _, key := range []string{keyTerm, keyVote} {
		value, err := s.get([]byte(key))
		if errors.Is(err, errNoValue) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.Set([]byte(key), value); err != nil {
			return err
		}
	}
	s.summed = true
	return nil
}

// check returns an error for a file that has lost what raft wrote, or whose term or vote is damaged. A master that
// continued with an empty file would vote twice and forget what it has acknowledged.
func (s *stableStore) check(id identity) error {
	if !id.Begun {
		return nil
	}
	_, err := s.GetUint64([]byte(keyTerm))
	if errors.Is(err, errNoValue) {
		return diskError(s.name, errors.New("it is new or empty, and this master had written to it: "+
			"remove the member, move the whole folder away, and start the master with --join and a join ticket"))
	}
	if err == nil {
		if _, err = s.GetUint64([]byte(keyVoteTerm)); errors.Is(err, errNoValue) {
			return nil // it has not voted yet
		}
	}
	return err
}
