package worker

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/internal/durable"
)

// Starts is the list of a data folder's own starts: the file "starts", mode 0600. Each start has a random name. The
// masters know the name of the start that registered last. If that name is not in the list, the folder was copied
// before that start, and this is the copy or an older state of the folder.
//
// The file, big endian: magic "CSST" ‖ version u8 = 1 ‖ count u16 ‖ confirmed u16 ‖ (length u8 ‖ name) × count ‖
// CRC-32C of everything before it. The names are in the order of the starts, and the last is the newest. confirmed is
// the position, counted from 1, of the newest start that the masters confirmed, 0 for none.
//
// The list keeps the newest [MaxStarts] starts. The newest confirmed one stays even when it is older, so a worker that
// starts very often while no master answers is still known. The masters no longer have the starts that are dropped,
// unless they were recovered from an older state: then the worker must register as a new one.
//
// A list is used by one goroutine at a time.
type Starts struct {
	path      string
	names     []string // the oldest first; the last is this start
	confirmed string   // the newest that the masters confirmed, "" for none
}

// MaxStarts is how many starts the list keeps.
const MaxStarts = 1024

var startsFormat = durable.Format{Magic: "CSST", Version: 1}

func startsPath(dir string) string { return filepath.Join(dir, "starts") }

// OpenStarts reads the list of a data folder and adds this start, which is on disk when it returns. If there is no
// list, it makes one: the folder is new, or an older version wrote it. A damaged list is moved aside, to
// starts.damaged-N, and the worker gets a new identity of the same cluster. Without the list it is not known whether
// the folder is the newest of its identity, and a new node is judged by its blocks alone. damaged is what was
// wrong with the list, nil for nothing. Load the identity after this.
func OpenStarts(dir string) (s *Starts, damaged, err error) {
	s = &Starts{path: startsPath(dir)}
	err = startsFormat.Read(s.path, s.parse)
	switch {
	case errors.Is(err, durable.ErrDamaged):
		s.names, s.confirmed = nil, ""
		if damaged, err = s.replace(dir, err); err != nil {
			return nil, nil, err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	s.names = append(s.names, rand.Text())
	s.trim()
	if err := s.write(); err != nil {
		return nil, nil, err
	}
	return s, damaged, nil
}

// replace writes a new identity and moves a damaged list aside. The identity comes first: after a crash in between, the
// list is still damaged, and the next start repeats both. A damaged identity is left to LoadIdentity.
func (s *Starts) replace(dir string, why error) (damaged, err error) {
	old, damagedIdentity, err := readIdentity(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && damagedIdentity == nil {
		fresh := Identity{Version: identityVersion, MasterToken: rand.Text(), Group: old.Group}
		if err := fresh.Save(dir); err != nil {
			return nil, err
		}
	}
	aside, err := moveAside(s.path)
	if err != nil {
		return nil, err
	}
	return fmt.Errorf("%w; moved to %s; the worker id was %q", why, aside, old.ID), nil
}

// parse reads the body of the file.
func (s *Starts) parse(b *durable.Fields) {
	count, position := int(b.Uint16()), int(b.Uint16())
	for range count {
		s.names = append(s.names, b.String8())
	}
	switch {
	case position > count:
		b.Fail(fmt.Errorf("start %d of %d is confirmed", position, count))
	case position > 0:
		s.confirmed = s.names[position-1]
	}
}

// trim drops the oldest names beyond the limit.
func (s *Starts) trim() {
	over := len(s.names) - MaxStarts
	if over <= 0 {
		return
	}
	kept := slices.Clone(s.names[over:])
	if s.confirmed != "" && !slices.Contains(kept, s.confirmed) {
		kept[0] = s.confirmed
	}
	s.names = kept
}

// write writes the list to disk.
func (s *Starts) write() error {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(s.names)))
	body = binary.BigEndian.AppendUint16(body, uint16(slices.Index(s.names, s.confirmed)+1))
	for _, name := range s.names {
		body = append(append(body, uint8(len(name))), name...)
	}
	return startsFormat.Write(s.path, body)
}

// Own returns the name of this start.
func (s *Starts) Own() string { return s.names[len(s.names)-1] }

// Confirmed returns the name of the newest start that the masters confirmed, "" if they confirmed none.
func (s *Starts) Confirmed() string { return s.confirmed }

// Has reports whether a name is one of this folder's starts.
func (s *Starts) Has(name string) bool { return slices.Contains(s.names, name) }

// Confirm records that the masters confirmed this start; that is on disk when Confirm returns. An error means that the
// disk failed: the role must stop.
func (s *Starts) Confirm() error {
	before := s.confirmed
	if before == s.Own() {
		return nil
	}
	s.confirmed = s.Own()
	err := s.write()
	if err != nil {
		s.confirmed = before
	}
	return err
}
